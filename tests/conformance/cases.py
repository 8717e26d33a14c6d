"""Cases from public trackers of other projects, as `docs/compatibility.md` lists them.

Each was a failure here once. A row says what people do, what the right answer is, and which test
holds it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One case.

    Attributes:
        id: its name in our notes.
        what: what people do.
        right: the right answer.
        test: the test that holds it, ``path::name``, or the path of a module.
    """

    id: str
    what: str
    right: str
    test: str


CASES = (
    Case(
        id="R1",
        what='`"env": ".env"` in a clone, which has no such file',
        right="served, with a note",
        test="tests/graphs/test_variables.py::test_an_env_file_that_no_clone_has_is_a_note",
    ),
    Case(
        id="F7, R2",
        what="a graph in `./agent.v2.py`, `./1.5_chef.py`, a file or folder with blanks, hyphens or"
        " other alphabets, a second `agent.py`",
        right="loaded by its path, under one name in all processes; relative imports work",
        test="tests/graphs/test_module_names.py",
    ),
    Case(
        id="F6",
        what="`email.py`, `types.py` and others beside the graphs, which nobody imports",
        right="`check` and `serve` start: an import in a library finds Python's own",
        test="tests/graphs/test_module_names.py"
        "::test_files_called_like_modules_of_python_hide_none_of_them",
    ),
    Case(
        id="R3",
        what="`Annotated[NotRequired[list[str]], operator.add]`, `Required`, `ReadOnly`, a nested"
        " `Annotated`, or a type without a schema in a state",
        right="`state_schema` has all keys",
        test="tests/graphs/test_schemas.py",
    ),
    Case(
        id="R4",
        what='`compile(name="My Fancy Graph")`',
        right="the assistant's name, as there; a factory's graph has its id",
        test="tests/persistence/test_records.py"
        "::test_system_assistants_have_the_defaults_and_the_name_of_the_last_start",
    ),
    Case(
        id="F4",
        what="a `context_schema`, and a run with keys that it does not have, or with wrong values",
        right="unknown keys are dropped, defaults stay; a wrong value ends the run with an error"
        " that names the key",
        test="tests/graphs/test_contexts.py",
    ),
    Case(
        id="Y5",
        what="`LANGGRAPH_CONFIG`: defaults for each graph",
        right="the assistant's config and context; here its `context` counts too",
        test="tests/graphs/test_variables.py::test_langgraph_config_has_the_defaults_of_each_graph",
    ),
    Case(
        id="R5",
        what="a module that does not import: a variable or a package that is missing, a failing"
        " `TaskGroup`, a syntax error in an imported file; a factory that fails",
        right="the line of the project, the innermost cause, what to do; `check` calls factories",
        test="tests/graphs/test_import_errors.py",
    ),
    Case(
        id="F13",
        what="any exception in a node",
        right="class, message, traceback, node and ids in the log, once, and in the terminal; the"
        " client gets class and message",
        test="tests/test_failures.py",
    ),
    Case(
        id="F14",
        what="the page on logs",
        right="the path that is used",
        test="tests/test_failures.py::test_the_page_on_logs_names_the_directory_that_is_used",
    ),
    Case(
        id="R10",
        what="Ctrl-C at any moment of a start",
        right="ends, nothing is left, no traceback",
        test="tests/test_signals.py",
    ),
    Case(
        id="F3",
        what="A graph with an `output_schema` (CopilotKit PR#1406, langgraphjs#1475)",
        right="Wait, join, `values`, `updates` and webhooks have the keys of that schema, also"
        " after a failure, `/state` and the thread have all; there, a join after the run's end"
        " shows all.",
        test="tests/server/test_outputs.py::test_only_the_output_leaves_a_run_and_the_thread_keeps_the_state",
    ),
    Case(
        id="F3, input",
        what="A graph with an `input_schema`, and input beside it",
        right="Dropped without an error, as LangGraph does in process.",
        test="tests/graphs/test_outputs.py::test_only_the_keys_of_the_input_schema_reach_the_graph",
    ),
    Case(
        id="F5",
        what="NumPy, pandas, fractions, own classes and others in a state, also in a document or an"
        " artifact (langgraph#8705, #8689, #8185, #8326)",
        right="The next node, a later process and `/state` have an equal value.",
        test="tests/persistence/test_serializing.py::test_a_value_comes_back_equal",
    ),
    Case(
        id="F5, refused",
        what="A lock, a function, a generator in a state; a strict allow-list",
        right="The run ends in `error` in the node that returned it, with key, place and type.",
        test="tests/persistence/test_serializing.py"
        "::test_a_node_that_returns_what_cannot_be_kept_ends_the_run",
    ),
    Case(
        id="F9",
        what="A result of before an answer, or of a node's cache (langgraph#5952, #6533)",
        right='`updates` has `"__metadata__": {"cached": true}` where LangGraph says so; a run'
        " that is taken up by another process tells nothing twice.",
        test="tests/graphs/test_events.py::test_a_result_of_before_the_answer_is_marked_as_cached",
    ),
    Case(
        id="F10",
        what="An exception with a broken `__str__`, 10 MB, notes, a cause; one that cannot be"
        " pickled (dask#3145, celery#6990)",
        right='`{"error": class, "message": ...}`, bounded; the SDK\'s `wait` raises it.',
        test="tests/graphs/test_raising.py::test_what_is_told_is_bounded_and_always_there",
    ),
    Case(
        id="F11, Y3",
        what="Metadata of assistant, thread, config and run (aegra#604, langgraph#3199)",
        right="A node, the run, its states and a search of the history have all, the later of"
        " these over the earlier; the thread's `config` has those of its newest run.",
        test="tests/persistence/test_run_metadata.py"
        "::test_a_runs_metadata_lie_over_its_threads_and_those_over_the_assistants",
    ),
    Case(
        id="Y2",
        what="Metadata of states",
        right="They name the thread, in a copy that one, and of a subgraph its place and node.",
        test="tests/graphs/test_metadata.py::test_a_state_names_its_thread_and_is_found_by_metadata",
    ),
    Case(
        id="U1",
        what="A filter of an `@auth.on` handler with an unknown operator or a nested object; there"
        " it matches everything",
        right="It matches nothing: 500 with a sentence, and the log says why.",
        test="tests/core/test_scopes.py::test_what_is_not_understood_is_an_error",
    ),
    Case(
        id="U2",
        what="Refusals of `@auth.authenticate`; there headers are dropped, and statuses but 401 and"
        " 403 are 500",
        right="Status and headers are sent; a `ValueError` is 400 without its text.",
        test="tests/auth/test_authenticator.py::test_headers_of_a_refusal_are_sent",
    ),
    Case(
        id="U3",
        what="What a handler returns about a user, with tokens in it; there `GET run` shows all of"
        " it",
        right="The graph gets it, on each attempt and from crons; no route shows it.",
        test="tests/http/test_users.py::test_what_a_stateless_run_makes_is_its_creators",
    ),
    Case(
        id="U4",
        what="`x-auth-scheme: langsmith`; there it lets everybody in as Studio",
        right="It has no effect.",
        test="tests/graphs/test_auth_section.py"
        "::test_nobody_is_let_in_for_saying_that_it_is_studio",
    ),
    Case(
        id="U5",
        what="`auth.cache`; there it has no effect",
        right="Users are kept by the headers that are named.",
        test="tests/auth/test_authenticator.py::test_users_are_kept_by_the_headers_that_were_named",
    ),
    Case(
        id="U6",
        what="`Idempotency-Key`, and a session of MCP, of another user",
        right="Both belong to their user.",
        test="tests/http/test_users.py::test_a_key_of_one_user_is_not_that_of_another",
    ),
    Case(
        id="Y4",
        what="A client that sends `langgraph_auth_user` and the like",
        right="The server's values win, none is in `context`, none in a checkpoint's metadata.",
        test="tests/http/test_run_metadata.py::test_the_servers_keys_are_its_own_and_are_in_no_context",
    ),
    Case(
        id="Y6",
        what="`events`: a tool message that a node returns without an id",
        right="It has the id that it has in the state.",
        test="tests/graphs/test_events.py::test_events_have_the_id_that_a_message_gets",
    ),
    Case(
        id="F1, F2",
        what="a node, tool, factory or reducer that exits, or raises any `BaseException`",
        right="its run ends in `error` with that name; finished supersteps stay; runs beside it in"
        " a dense actor do not notice",
        test="tests/reliability/test_raising.py"
        "::test_a_run_that_raises_ends_in_error_and_nobody_else_notices",
    ),
    Case(
        id="F8",
        what="`.env` with quotes, `${NAME}`, `export`, comments, several lines",
        right="as python-dotenv reads it",
        test="tests/graphs/test_variables.py::test_env_files_are_read_as_python_dotenv_reads_them",
    ),
    Case(
        id="F12",
        what="`HEAD`, as health checks send it; a slash too many",
        right="as `GET` without its body; 307",
        test="tests/http/test_edge.py::test_a_head_is_a_get_without_its_body",
    ),
    Case(
        id="Y1",
        what="`config.configurable.user_id` of a client",
        right='the graph and `kwargs` have it; `""` is only the default',
        test="tests/http/test_creating_runs.py::test_a_user_id_is_the_clients",
    ),
    Case(
        id="R6",
        what="a join of a run of the `/api` mount in its middle, with `Last-Event-ID` or without",
        right="all events from the first one, with their ids",
        test="tests/conformance/test_gateway_mount.py::test_a_joiner_gets_every_event_with_its_id",
    ),
    Case(
        id="R7",
        what="under `/api`, an assistant by its graph's name; a thread that is not there yet",
        right="200; an empty thread",
        test="tests/conformance/test_gateway_mount.py"
        "::test_a_thread_that_is_not_there_yet_is_empty",
    ),
    Case(
        id="Y7, R9",
        what="a start on a machine that is busy",
        right="starts, later; a sentence with what to set when patience is over",
        test="tests/actors/test_patience.py",
    ),
    Case(
        id="R8",
        what="a project that pins Ray, FastAPI, pydantic, orjson, LangGraph of half a year ago",
        right="installs beside it down to Ray 2.57 (older ones bring no HAProxy), FastAPI 0.133,"
        " pydantic 2.12, orjson 3.12 (3.11 crashes on a value inside itself), LangGraph 1.2.20"
        " (older ones cannot refuse a late answer);"
        " `make test-lowest`",
        test="pyproject.toml",
    ),
)

SHAPES = {
    "template_src": "the template of `langgraph new`: `src/agent`, a context schema, no `.env`",
    "package": "the example of `langgraph build`: `my_agent/` with `utils/`, a state of messages",
    "flat": "files beside each other, a builder, an object with a description",
    "monorepo": "apps with a `langgraph.json` each and one for all, two packages of one name",
    "uv_workspace": "a uv workspace: `packages/*/src/*`",
    "odd_names": "`1.5_chef.py`, `agent.v2.py`, blanks, hyphens, other alphabets",
    "factories": "functions that make a graph: of nothing, config, runtime or both; async; context"
    " managers and generators",
    "environment": "variables that a module needs, and `LANGGRAPH_CONFIG`",
    "react_agent": "an agent with tools and middleware, as `create_agent` compiles it (by hand)",
    "supervisor": "agents that hand back by `Command(goto=..., graph=Command.PARENT)` (by hand)",
    "swarm": "agents that hand over to each other; the active one stays (by hand)",
    "functional": "`@entrypoint` and `@task`, with `previous`",
    "subgraphs": "a subgraph with state of its own, a graph with a saver and a store of its own",
    "deep_agent": "what deepagents compiles to: todos, files, private keys, subagents (by hand)",
    "approval": "a question to a human and its answer",
    "library_names": "`email.py`, `types.py` and seven others that nobody imports",
    "namespace": "folders without `__init__.py`, imported from the root",
    "research": "map and reduce, input and output schemas, a configuration of pydantic",
    "memory": "the store in a node, a state of pydantic",
    "module_target": "`package.module:graph`",
}
"""What the projects in `tests/projects` stand for, by folder."""

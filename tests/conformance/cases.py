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

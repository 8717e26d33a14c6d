"""Cases from public trackers, which `docs/compatibility.md` lists with their answers and tests.

They were reported of other servers, or found by other people's tests. Each row has the case, the
answer that is given here, and the test that holds it: ``folder/test_module.py::test_name``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    what: str
    answer: str
    test: str


CASES: dict[str, Case] = {
    "F3": Case(
        what="A graph with an `output_schema` (CopilotKit PR#1406, langgraphjs#1475)",
        answer="Wait, join, `values`, `updates` and webhooks have the keys of that schema, `/state`"
        " and the thread have all; there, a join after the run's end shows all.",
        test="server/test_outputs.py::test_only_the_output_leaves_a_run_and_the_thread_keeps_the_state",
    ),
    "F3, input": Case(
        what="A graph with an `input_schema`, and input beside it",
        answer="Dropped without an error, as LangGraph does in process.",
        test="graphs/test_outputs.py::test_only_the_keys_of_the_input_schema_reach_the_graph",
    ),
    "F5": Case(
        what="NumPy, pandas, fractions, own classes and others in a state, also in a document or an"
        " artifact (langgraph#8705, #8689, #8185, #8326)",
        answer="The next node, a later process and `/state` have an equal value.",
        test="persistence/test_serializing.py::test_a_value_comes_back_equal",
    ),
    "F5, refused": Case(
        what="A lock, a function, a generator in a state; a strict allow-list",
        answer="The run ends in `error` in the node that returned it, with key, place and type.",
        test="persistence/test_serializing.py"
        "::test_a_node_that_returns_what_cannot_be_kept_ends_the_run",
    ),
    "F9": Case(
        what="A result of before an answer, or of a node's cache (langgraph#5952, #6533)",
        answer='`updates` has `"__metadata__": {"cached": true}` where LangGraph says so; a run'
        " that is taken up by another process tells nothing twice.",
        test="graphs/test_events.py::test_a_result_of_before_the_answer_is_marked_as_cached",
    ),
    "F10": Case(
        what="An exception with a broken `__str__`, 10 MB, notes, a cause; one that cannot be"
        " pickled (dask#3145, celery#6990)",
        answer='`{"error": class, "message": ...}`, bounded; the SDK\'s `wait` raises it.',
        test="graphs/test_raising.py::test_what_is_told_is_bounded_and_always_there",
    ),
    "F11, Y3": Case(
        what="Metadata of assistant, thread, config and run (aegra#604, langgraph#3199)",
        answer="A node, the run, its states and a search of the history have all, the later of"
        " these over the earlier; the thread's `config` has those of its newest run.",
        test="persistence/test_run_metadata.py"
        "::test_a_runs_metadata_lie_over_its_threads_and_those_over_the_assistants",
    ),
    "Y2": Case(
        what="Metadata of states",
        answer="They name the thread, in a copy that one, and of a subgraph its place and node.",
        test="graphs/test_metadata.py::test_a_state_names_its_thread_and_is_found_by_metadata",
    ),
    "Y4": Case(
        what="A client that sends `langgraph_auth_user` and the like",
        answer="The server's values win, none is in `context`, none in a checkpoint's metadata.",
        test="http/test_run_metadata.py::test_the_servers_keys_are_its_own_and_are_in_no_context",
    ),
    "Y6": Case(
        what="`events`: a tool message that a node returns without an id",
        answer="It has the id that it has in the state.",
        test="graphs/test_events.py::test_events_have_the_id_that_a_message_gets",
    ),
}

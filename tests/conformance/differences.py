"""Where Greenroom answers otherwise than the reference, by intent.

Each key is a scenario: ``test_module.py::test_name``, with ``[parameters]`` where only some of them
differ. What the reference cannot be asked at all stands in `ONLY_HERE`, by module.
`docs/compatibility.md` is made from these tables.
"""

from __future__ import annotations

DIFFERENCES: dict[str, str] = {
    "test_event_streaming.py::test_a_state_is_got_by_command": (
        "There, `state.get` is an unknown command, though the protocol has it."
    ),
    "test_event_streaming.py::test_a_run_that_is_cancelled_while_it_waits_has_an_end": (
        "There, nothing is told of a run that is cancelled while it waits, and clients hang."
    ),
    "test_event_streaming.py::test_of_two_answers_at_once_one_counts": (
        "There, both answers are taken, and start a run each."
    ),
    "test_a2a.py::test_every_text_part_reaches_the_graph": (
        "There, of several text parts of an A2A message only the last one reaches the graph."
    ),
    "test_a2a.py::test_a_task_has_its_artifacts_later_too": (
        "There, `tasks/get` answers without artifacts, so a client that comes later has no result."
    ),
    "test_a2a.py::test_a_message_on_the_context_of_a_task_that_waits_answers_it": (
        "There, it begins a new task, and the question is lost."
    ),
    "test_a2a.py::test_an_answer_to_an_interrupt_keeps_the_task": (
        "There, a text answers only an interrupt of a graph with `messages`; others get no answer."
    ),
    "test_a2a.py::test_who_subscribes_again_gets_the_task": (
        "There, `tasks/resubscribe` is no method."
    ),
    "test_framing.py::test_no_two_events_share_an_id": (
        "There, events of one millisecond share an id, and a resume skips all but the first."
    ),
    "test_framing.py::test_the_location_of_a_stateless_stream_can_be_read": (
        "There, `Location` names a route that does not exist, so a broken stream cannot be resumed."
    ),
    "test_framing.py::test_browsers_of_other_origins_may_reconnect": (
        "There, `Location` is not exposed, and pages of other origins never reconnect."
    ),
    "test_stream_modes.py::test_feedback_keys_end_a_stream_with_an_address_for_each": (
        "There, a run with `feedback_keys` ends with an error without LangSmith; here the stream"
        " ends with an address of this server for each, and `/runs/{run_id}/feedback` lists what"
        " was said."
    ),
    "test_joining.py::test_the_error_of_a_failed_run_is_replayed": (
        "There, the `error` event is missing from a replay, which then looks like a success."
    ),
    "test_joining.py::test_a_joiner_may_filter_modes_in_every_encoding": (
        "There, only a JSON list is a list; here commas and repeated keys are too, as the "
        "Python SDK sends them."
    ),
    "test_joining.py::test_an_unknown_run_cannot_be_joined": (
        "There, 200 with an error in the body; a status that says so is what clients handle."
    ),
    "test_sdk.py::test_join_stream_filters_several_modes": (
        "The Python SDK repeats the key; there, only the last one counts."
    ),
    "test_thread_stream.py::test_modes_may_be_given_in_every_encoding": (
        "There, only commas separate modes, and `stream_mode` is ignored."
    ),
    "test_cancel.py::test_a_pending_run_that_is_rolled_back_is_only_interrupted": (
        "It did nothing that could be rolled back, and its record tells what became of it; "
        "there, it is deleted."
    ),
    "test_cancel.py::test_a_thread_stays_busy_when_a_pending_run_is_cancelled": (
        "A run is running on it; there, it says `idle`."
    ),
    "test_cancel.py::test_cancel_then_stream_gives_what_is_left": (
        "The stop button of some clients; the reference has no such route."
    ),
    "test_cancel.py::test_cancel_then_stream_that_waits_answers_204": (
        "The stop button of some clients; the reference has no such route."
    ),
    "test_random_double_texting.py::test_two_hundred_double_texts_end_as_the_model_predicts": (
        "There, now and then, steps of runs that were rolled back stay in the thread's state."
    ),
    "test_multitask.py::test_rollback_deletes_pending_runs_too": (
        "There, now and then, steps of the run that was rolled back stay in the thread's state."
    ),
    "test_runs.py::test_with_a_deleted_run_go_its_checkpoints": (
        "Who deletes a run does not want its answer to stay; there, its checkpoints do."
    ),
    "test_runs.py::test_deleting_a_running_run_stops_it": (
        "There, the task goes on and writes into the thread."
    ),
    "test_threads.py::test_deleting_a_thread_ends_the_streams_of_its_runs": (
        "There, the streams stay open and the task goes on."
    ),
    "test_runs.py::test_an_explicit_null_means_absent": (
        "Several languages' clients send null for what is not set; there, most fields refuse it."
    ),
    "test_disconnect.py::test_on_disconnect_is_validated_on_every_route": (
        "Options are checked on every create route alike; there, on two of three."
    ),
    "test_state.py::test_history_takes_a_bare_checkpoint_too": (
        "`RemoteGraph` sends that; there, it is a 500."
    ),
    "test_state.py::test_a_resume_that_nothing_waits_for_asks_the_question": (
        "As LangGraph itself does; there, the run fails with a TypeError of the server's own."
    ),
    "test_state.py::test_a_rolled_back_resume_can_be_answered_otherwise": (
        "There, the answer of the run that was rolled back stays with the question."
    ),
    "test_state.py::test_after_a_rolled_back_yes_a_no_is_a_no": (
        "There, a later NO is ignored and the rolled back YES is taken."
    ),
    "test_state.py::test_a_state_may_be_of_some_fields": (
        "There, `select` is ignored on states; here it is honoured, as on searches."
    ),
    "test_malformed.py::test_an_id_that_is_no_uuid_is_refused_alike_everywhere": (
        "There, 400 with a sentence of the UUID parser on these routes and 422 on the others."
    ),
    "test_malformed.py::test_a_nul_character_is_refused": (
        "No PostgreSQL can hold it; there, it is replaced silently."
    ),
    "test_threads.py::test_a_backslash_before_u0000_survives": (
        "It is ordinary text; there, it is replaced as if it were a NUL character."
    ),
    "test_threads.py::test_a_search_for_ids_that_are_none_is_refused": (
        "There, 400; here malformed ids are 422 everywhere."
    ),
    "test_threads.py::test_threads_that_never_ran_do_not_break_a_search_by_values": (
        "There, such a thread makes the search a 500."
    ),
    "test_making_assistants.py::test_an_earlier_version_has_its_graph_and_context_too": (
        "There, graph and context stay those of the newest version: a run has half of each."
    ),
    "test_making_assistants.py::test_config_and_context_never_disagree": (
        "Two names for the same values; there, one changes without the other, and a run sees both."
    ),
    "test_making_assistants.py::test_keys_of_a_run_are_no_part_of_an_assistant": (
        "The server sets them for each run; there, the assistant shows them."
    ),
    "test_making_assistants.py::test_an_assistants_config_has_metadata_too": (
        "What is accepted has an effect; there, only the assistant's own metadata reach a run."
    ),
    "test_making_assistants.py::test_no_run_inherits_from_the_thread": (
        "There, a run of another assistant has the `configurable` of the thread's first run."
    ),
    "test_making_assistants.py::test_a_run_names_the_version_of_its_assistant": (
        "There, no run tells which version it took."
    ),
    "test_store.py::test_a_replaced_item_keeps_when_it_was_created": (
        "There, each put begins `created_at` anew."
    ),
    "test_store.py::test_an_item_without_the_key_is_no_match": (
        "There, `$gt` and the like are a 500 if any item lacks the key."
    ),
    "test_store.py::test_a_search_without_anything_finds_items": (
        "There, a search without `namespace_prefix` is a 500."
    ),
    "test_store.py::test_a_read_of_nothing_leaves_no_namespace": (
        "There, the namespace of a read or a deletion is listed, although it has no item."
    ),
    "test_store.py::test_an_item_that_has_expired_is_not_there": (
        "There, in memory, no time to live of an item is kept."
    ),
    "test_store.py::test_a_time_to_live_is_a_number_above_zero[0]": (
        "There, 0 and less are taken, and mean nothing."
    ),
    "test_store.py::test_a_time_to_live_is_a_number_above_zero[-1]": (
        "There, 0 and less are taken, and mean nothing."
    ),
    "test_store.py::test_a_search_that_means_nothing_is_refused[body0]": (
        "There, a negative `limit` cuts from the end."
    ),
    "test_store.py::test_a_search_that_means_nothing_is_refused[body1]": (
        "There, a negative `offset` cuts from the end."
    ),
    "test_crons.py::test_a_cron_that_is_enabled_again_waits_for_its_next_date": (
        "There, it keeps the date that has passed, and fires at once."
    ),
    "test_crons.py::test_what_could_not_fire_is_refused_when_the_cron_is_made": (
        "There, such crons are accepted, and each firing fails; an `end_time` that is no date stops"
        " other crons too."
    ),
    "test_crons.py::test_a_body_without_schedule_or_assistant_is_refused": ("There, it is a 500."),
    "test_crons.py::test_changed_metadata_reach_the_runs_whole": (
        "There, the cron shows old and new metadata, and its runs get the new ones only."
    ),
    "test_crons.py::test_a_count_may_be_of_those_that_fire": (
        "There, a search honours `enabled`, and a count ignores it."
    ),
    "test_mcp.py::test_the_message_of_what_a_graph_raises_is_told": (
        "There, the text is the name of the class, so a model cannot mend its arguments."
    ),
    "test_mcp.py::test_the_result_of_a_tool_is_json": (
        "There, the text is Python's `repr`, and nothing is structured."
    ),
    "test_mcp.py::test_a_question_of_a_graph_is_no_success": (
        "There, it is a success with `__interrupt__` in its text, although nobody can answer."
    ),
    "test_mcp.py::test_assistants_of_one_name_are_two_tools": (
        "There, they are one tool, and each call of it fails."
    ),
    "test_mcp.py::test_progress_is_told_to_a_client_that_asks_for_it": (
        "There, nothing is told before the end."
    ),
    "test_mcp.py::test_an_answer_is_an_event_stream_where_nothing_else_is_accepted": (
        "There, it is JSON, which the client has not accepted."
    ),
    "test_mcp.py::test_any_kind_of_answer_may_be_accepted": (
        "curl accepts `*/*`; there, that is a 400."
    ),
    "test_mcp.py::test_an_unknown_version_in_the_header_is_refused": (
        "The protocol wants a 400; there, the header is not read."
    ),
    "test_mcp.py::test_there_is_no_session_to_end": (
        "The protocol wants a 405 where no client may end a session; there, it is a 404."
    ),
    "test_mcp.py::test_a_cancelled_call_ends_early": (
        "There, `notifications/cancelled` has no effect, and there is no session."
    ),
}

SOMETIMES = frozenset(
    {
        "test_multitask.py::test_rollback_deletes_pending_runs_too",
        "test_random_double_texting.py::test_two_hundred_double_texts_end_as_the_model_predicts",
    }
)
"""Of those: what the reference passes when the timing is kind."""

ONLY_HERE: dict[str, str] = {
    "test_gateway_mount.py": "The reference has no second mount under `/api`.",
}


def scenario_of(node_id: str) -> str:
    """``test_module.py::test_name[parameters]`` of a test."""
    path, _, name = node_id.partition("::")
    return f"{path.rpartition('/')[2]}::{name}"


def reason_of(node_id: str) -> str | None:
    """Why the reference is expected to answer otherwise, if it is."""
    scenario = scenario_of(node_id)
    return DIFFERENCES.get(scenario) or DIFFERENCES.get(scenario.partition("[")[0])


def always(node_id: str) -> bool:
    """Whether the reference is sure to answer otherwise."""
    return scenario_of(node_id) not in SOMETIMES


def only_here(node_id: str) -> str | None:
    """Why the reference is not asked, if it is not."""
    return ONLY_HERE.get(scenario_of(node_id).partition("::")[0])

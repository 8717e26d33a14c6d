"""The A2A protocol: what the reference does right, and where it does not."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.conformance.talking import UNKNOWN, Talk, ok
from tests.conformance.test_assistants import id_of


def message(*parts: Any, **more: Any) -> dict[str, Any]:
    """Each part is a text, or data."""
    given = [
        {"kind": "text", "text": part} if isinstance(part, str) else {"kind": "data", "data": part}
        for part in parts
    ]
    return {"message": {"role": "user", "messageId": str(uuid4()), "parts": given, **more}}


async def asked(talk: Talk, graph: str, method: str, params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": "r1", "method": method, "params": params}
    headers = {"accept": "application/json"}
    found = ok(await talk.post(f"/a2a/{id_of(graph)}", body, headers=headers))
    assert (found["jsonrpc"], found["id"]) == ("2.0", "r1")
    return found


async def result(talk: Talk, graph: str, method: str, params: Any) -> Any:
    found = await asked(talk, graph, method, params)
    assert "error" not in found, found
    return found["result"]


async def test_a_card_names_the_endpoint_and_the_version(talk: Talk) -> None:
    params = {"assistant_id": id_of("agent")}
    card = ok(await talk.get("/.well-known/agent-card.json", params=params))
    assert card["name"] == "agent"
    assert card["url"].endswith(f"/a2a/{id_of('agent')}")
    assert card["supportedInterfaces"][0] == {
        "url": card["url"],
        "protocolBinding": "JSONRPC",
        "protocolVersion": "1.0",
    }
    assert card["capabilities"]["streaming"] is True
    assert card["skills"][0]["metadata"]["inputSchema"]["supportsA2A"] is True
    assert ok(await talk.get(f"/a2a/{id_of('agent')}")) == card


async def test_a_card_needs_an_assistant(talk: Talk) -> None:
    assert (await talk.get("/.well-known/agent-card.json")).status_code == 400


async def test_a_message_is_answered_with_a_completed_task(talk: Talk) -> None:
    task = await result(talk, "agent", "message/send", message("hi"))
    assert (task["kind"], task["status"]["state"]) == ("task", "completed")
    said = "tok0 tok1 tok2 tok3 tok4 "
    assert task["artifacts"][0]["parts"] == [{"kind": "text", "text": said}]
    assert [each["role"] for each in task["history"]] == ["user", "agent"]
    assert ok(await talk.get(f"/threads/{task['contextId']}"))["status"] == "idle"
    found = await result(talk, "agent", "tasks/get", {"id": task["id"]})
    assert (found["id"], found["status"]["state"]) == (task["id"], "completed")


async def test_a_context_goes_on(talk: Talk) -> None:
    first = await result(talk, "agent", "message/send", message("hi"))
    more = message("more", contextId=first["contextId"])
    second = await result(talk, "agent", "message/send", more)
    assert second["contextId"] == first["contextId"]
    assert second["id"] != first["id"]
    assert [each["role"] for each in second["history"]] == ["user", "agent"] * 2


async def test_an_interrupt_asks_for_input(talk: Talk) -> None:
    task = await result(talk, "approval", "message/send", message({"question": "sure?"}))
    assert task["status"]["state"] == "input-required"
    (part,) = task["artifacts"][0]["parts"]
    assert part["data"]["value"] == {"question": "sure?"}


async def test_every_text_part_reaches_the_graph(talk: Talk) -> None:
    task = await result(talk, "agent", "message/send", message("one", "two"))
    (said,) = task["history"][0]["parts"]
    assert said["text"] == "one\ntwo"


async def test_a_task_has_its_artifacts_later_too(talk: Talk) -> None:
    task = await result(talk, "agent", "message/send", message("hi"))
    found = await result(talk, "agent", "tasks/get", {"id": task["id"]})
    assert found["artifacts"] == task["artifacts"]


async def test_text_for_a_graph_without_messages_is_refused(talk: Talk) -> None:
    found = await asked(talk, "counter", "message/send", message("hi"))
    assert found["error"]["code"] == -32602


async def test_unknown_methods_and_tasks_have_codes(talk: Talk) -> None:
    assert (await asked(talk, "agent", "bogus", {}))["error"]["code"] == -32601
    found = await asked(talk, "agent", "tasks/get", {"id": UNKNOWN})
    assert found["error"]["code"] == -32001


async def test_a_message_on_the_context_of_a_task_that_waits_answers_it(talk: Talk) -> None:
    task = await result(talk, "approval", "message/send", message({"question": "sure?"}))
    answer = message({"yes": True}, contextId=task["contextId"])
    done = await result(talk, "approval", "message/send", answer)
    assert (done["id"], done["status"]["state"]) == (task["id"], "completed")
    assert (await talk.thread(task["contextId"]))["values"]["answer"] == {"yes": True}


async def test_an_answer_to_an_interrupt_keeps_the_task(talk: Talk) -> None:
    task = await result(talk, "approval", "message/send", message({"question": "sure?"}))
    done = await result(talk, "approval", "message/send", message("yes", taskId=task["id"]))
    assert (done["id"], done["status"]["state"]) == (task["id"], "completed")


async def test_who_subscribes_again_gets_the_task(talk: Talk) -> None:
    task = await result(talk, "approval", "message/send", message({"question": "sure?"}))
    body = {"jsonrpc": "2.0", "id": "r1", "method": "tasks/resubscribe"}
    body["params"] = {"id": task["id"]}
    answer = await talk.post(f"/a2a/{id_of('approval')}", body)
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_task_that_waits_is_canceled(talk: Talk) -> None:
    task = await result(talk, "approval", "message/send", message({"question": "sure?"}))
    assert task["status"]["state"] == "input-required"
    canceled = await result(talk, "approval", "tasks/cancel", {"id": task["id"]})
    assert (canceled["id"], canceled["status"]["state"]) == (task["id"], "canceled")


async def test_the_tasks_of_a_context_are_listed_the_newest_first(talk: Talk) -> None:
    first = await result(talk, "agent", "message/send", message("hi"))
    again = message("again", contextId=first["contextId"])
    second = await result(talk, "agent", "message/send", again)
    params = {"contextId": first["contextId"], "pageSize": 1}
    page = await result(talk, "agent", "ListTasks", params)
    assert [task["id"] for task in page["tasks"]] == [second["id"]]
    assert (page["pageSize"], page["totalSize"]) == (1, 2)
    rest = await result(talk, "agent", "ListTasks", {**params, "pageToken": page["nextPageToken"]})
    assert [task["id"] for task in rest["tasks"]] == [first["id"]]


async def test_a_list_of_tasks_that_cannot_be_meant_is_refused(talk: Talk) -> None:
    for params in ({"pageSize": 101}, {"status": "bogus"}):
        found = await asked(talk, "agent", "ListTasks", params)
        assert found["error"]["code"] == -32602

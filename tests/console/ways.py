"""The ways that people go in the console. Collected twice: where everybody is let in, and with
users, below a prefix. Whoever imports this has a fixture `place`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.console.conftest import Place

HALF = "tok0 tok1 tok2 tok3 tok4 "
WHOLE = HALF + "tok5 tok6 tok7 tok8 tok9 "


async def runs_of(place: Place, thread_id: str) -> list[Any]:
    """The runs of a thread, the oldest first."""
    return [*reversed(await place.client.runs.list(thread_id))]


async def said_in(place: Place, thread_id: str) -> list[str]:
    said = [each["content"] for each in (await place.values(thread_id))["messages"]]
    return [each if isinstance(each, str) else each[0]["text"] for each in said]


async def test_a_message_is_sent_and_its_answer_comes_as_it_is_written(
    place: Place, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    told = await place.see("chat.sends", gate=gate, assistant=await place.assistant("talkative"))
    assert told["half"].split()[-1] == "tok4"
    assert told["shown"][0].endswith(f"gate {gate}")
    assert told["shown"][1].endswith(WHOLE.strip())
    assert await said_in(place, told["thread"]) == [f"gate {gate}", WHOLE]


async def test_a_run_is_stopped(place: Place, tmp_path: Path) -> None:
    told = await place.see(
        "chat.stops", gate=str(tmp_path / "gate"), assistant=await place.assistant("talkative")
    )
    [run] = await runs_of(place, told["thread"])
    assert run["status"] == "interrupted"


@pytest.mark.parametrize("strategy", ["inject", "enqueue", "interrupt", "rollback", "reject"])
async def test_a_second_message_has_five_answers(
    place: Place, tmp_path: Path, strategy: str
) -> None:
    gate = str(tmp_path / "gate")
    told = await place.see(
        "chat.doubles", gate=gate, strategy=strategy, assistant=await place.assistant("talkative")
    )
    runs = await runs_of(place, told["thread"])
    messages = await said_in(place, told["thread"])
    first = f"gate {gate}"
    match strategy:
        case "inject":
            assert "count" in told["said"]
            assert "not taken yet" in told["said"]
            assert {each["status"] for each in runs} == {"success"}
            assert messages == [first, WHOLE, "count", "3"]
        case "enqueue":
            assert "count" in told["said"]
            assert [each["status"] for each in runs] == ["success", "success"]
            assert messages == [first, WHOLE, "count", "3"]
        case "interrupt":
            assert [each["status"] for each in runs] == ["interrupted", "success"]
            assert messages[0] == first
            assert messages[-2] == "count"
        case "rollback":
            assert [each["status"] for each in runs] == ["success"]
            assert messages == ["count", "1"]
        case "reject":
            assert told["said"].endswith("/ count")
            assert [each["status"] for each in runs] == ["success"]
            assert messages == [first, WHOLE]


async def test_what_is_said_to_a_run_is_taken_by_it(place: Place) -> None:
    given = {"steps": 500, "delay": 0.05}
    told = await place.see(
        "chat.speaks",
        assistant=await place.assistant("slow"),
        input=given,
        said={"tag": "said-"},
        shows="said-",
    )
    [run] = await runs_of(place, told["thread"])
    assert run["status"] == "interrupted"
    trail = (await place.values(told["thread"]))["trail"]
    assert trail[0] == "1"
    assert trail[-1].startswith("said-")


async def test_a_question_in_the_inbox_is_answered(place: Place) -> None:
    thread = await place.waiting("asks", value="Go on?")
    await place.see("inbox.answers", thread=thread, text="yes")
    assert (await place.values(thread))["answer"] == "yes"


async def test_a_refusal_is_the_no_of_the_schema(place: Place) -> None:
    thread = await place.waiting("decision", customer="Ada")
    told = await place.see("inbox.refuses", thread=thread, fields={"amount": "7"})
    assert told["needed"] == "amount: This is needed."
    decision = {"approved": False, "amount": 7, "reason": "", "channel": "card"}
    assert (await place.values(thread))["decision"] == decision


async def test_an_earlier_checkpoint_is_edited_and_run_again(place: Place) -> None:
    thread = (await place.client.threads.create())["thread_id"]
    said = {"messages": [{"role": "user", "content": "hello"}]}
    await place.client.runs.wait(thread, "talkative", input=said)
    told = await place.see("thread.forks", thread=thread, text="count")
    assert told["refused"] == "Change a value first."
    assert "count" in told["changes"]
    assert told["chosen"] == told["at"]
    assert told["runs"] == 2
    assert await said_in(place, thread) == ["count", "1"]
    history = await place.client.threads.get_history(thread)
    parents = [(each["parent_checkpoint"] or {}).get("checkpoint_id") for each in history]
    assert any(parents.count(each) > 1 for each in parents if each), "what was there stays"


async def test_what_is_pressed_belongs_to_the_checkpoint_that_is_chosen(place: Place) -> None:
    thread = (await place.client.threads.create())["thread_id"]
    said = {"messages": [{"role": "user", "content": "hello"}]}
    await place.client.runs.wait(thread, "talkative", input=said)
    told = await place.see("thread.hurries", thread=thread, before="hello", after="count")
    assert told["early"] == [], "what was shown before is not acted on"
    assert told["commands"] == [told["edited"]]
    edited = await place.client.threads.get_state(thread, checkpoint_id=told["edited"])
    assert edited["parent_checkpoint"]["checkpoint_id"] == told["meant"]
    assert await said_in(place, thread) == ["count", "1"]


async def test_a_run_is_looked_into_and_held_step_by_step(place: Place) -> None:
    thread = (await place.client.threads.create())["thread_id"]
    assistant = await place.assistant("slow")
    given = {"steps": 1000, "delay": 0.1}
    run = await place.client.runs.create(thread, assistant, input=given)
    told = await place.see(
        "run.attached", thread=thread, run=run["run_id"], node="step", file="probe_graphs.py"
    )
    assert "step" in told["load"]
    assert "MiB" in told["load"]
    assert "before step" in told["notice"]
    assert told["after"] == told["held"] + 1
    assert {"Attempt 1", "step", "Paused"} <= set(told["rows"])
    assert (await place.client.runs.get(thread, run["run_id"]))["status"] == "interrupted"

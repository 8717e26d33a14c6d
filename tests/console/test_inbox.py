"""Threads that wait for a person are answered in the browser, and the graph gets the answer."""

from __future__ import annotations

import uuid

import pytest

from tests.console.conftest import Place


@pytest.fixture
def place(open_place: Place) -> Place:
    return open_place


async def test_a_question_is_answered_with_text(place: Place) -> None:
    thread = await place.waiting("asks", value="Which **city**?")
    told = await place.see("inbox.answers", thread=thread, text="Paris\nin France")
    assert told == {
        "question": "Which city?",
        "refused": "Type an answer first.",
        "problems": [],
    }
    assert (await place.values(thread))["answer"] == "Paris\nin France"


async def test_a_question_is_answered_with_json(place: Place) -> None:
    thread = await place.waiting("asks", value={"question": "How many?", "of": ["a", "b"]})
    told = await place.see("inbox.answers", thread=thread, json='{"n": [1, 2.5, null]}')
    assert told["question"] == "How many?"
    assert (await place.values(thread))["answer"] == {"n": [1, 2.5, None]}


async def test_the_schema_of_an_answer_is_a_form(place: Place) -> None:
    thread = await place.waiting("decision", customer="Ada")
    fields = {"approved": "yes", "amount": "250", "channel": "bank"}
    told = await place.see(
        "inbox.fillsTheForm", thread=thread, fields=fields, bad={"amount": "900"}
    )
    assert told["problem"] == "amount: This must be at most 500."
    decision = {"approved": True, "amount": 250, "reason": "", "channel": "bank"}
    assert (await place.values(thread))["decision"] == decision


async def test_a_review_of_tool_calls_is_decided(place: Place) -> None:
    value = {
        "action_requests": [
            {"name": "send_mail", "args": {"to": "ada"}, "description": "Sends a mail"},
            {"name": "delete_file", "args": {"path": "/x"}},
            {"name": "look_up", "args": {"id": 7}},
        ],
        "review_configs": [
            {"action_name": "send_mail", "allowed_decisions": ["approve", "edit", "reject"]},
            {"action_name": "delete_file", "allowed_decisions": ["approve", "reject"]},
        ],
    }
    thread = await place.waiting("asks", value=value)
    decisions = [
        {"name": "send_mail", "choose": "Edit", "args": '{"to": "bob"}'},
        {"name": "delete_file", "choose": "Refuse", "message": "It is mine."},
        {"name": "look_up", "choose": "Approve"},
    ]
    told = await place.see("inbox.reviews", thread=thread, decisions=decisions)
    assert told["offered"] == {
        "send_mail": ["Approve", "Edit", "Refuse"],
        "delete_file": ["Approve", "Refuse"],
        "look_up": ["Approve", "Edit", "Refuse"],
    }
    assert (await place.values(thread))["answer"] == {
        "decisions": [
            {"type": "edit", "edited_action": {"name": "send_mail", "args": {"to": "bob"}}},
            {"type": "reject", "message": "It is mine."},
            {"type": "approve"},
        ]
    }


async def test_the_inbox_form_of_older_graphs_is_answered(place: Place) -> None:
    asked = {
        "action_request": {"action": "pay", "args": {"amount": 3}},
        "config": {"allow_accept": True, "allow_respond": True, "allow_ignore": True},
        "description": "Pays",
    }
    thread = await place.waiting("asks", value=[asked])
    decisions = [{"name": "pay", "choose": "Answer for it", "message": "later"}]
    told = await place.see("inbox.reviews", thread=thread, decisions=decisions)
    assert told["offered"] == {"pay": ["Approve", "Answer for it", "Refuse"]}
    assert (await place.values(thread))["answer"] == [{"type": "response", "args": "later"}]


async def test_a_refusal_without_a_schema_ends_the_thread(place: Place) -> None:
    thread = await place.waiting("asks", value="Go?")
    told = await place.see("inbox.refuses", thread=thread, confirm=True)
    assert "the question is dropped" in told["sentence"]
    assert (await place.client.threads.get(thread))["status"] == "idle"
    assert "answer" not in await place.values(thread)


async def test_the_error_of_a_run_is_said(place: Place) -> None:
    told = await place.see("chat.fails", field="x", value="3", error="boom: x=4")
    assert "x: This must be a number." in told["refused"]
    [run] = await place.client.runs.list(told["thread"])
    assert run["status"] == "error"


async def test_the_oldest_question_is_first_and_filters_hold(place: Place) -> None:
    tag = uuid.uuid4().hex
    threads = []
    for graph, given in (("decision", {"customer": "Ada"}), ("asks", {"value": "Later?"})):
        thread = (await place.client.threads.create(metadata={"tag": tag}))["thread_id"]
        await place.client.runs.wait(thread, graph, input=given)
        threads.append(thread)
    told = await place.see("inbox.listed", threads=threads, tag=tag, graph="asks")
    assert told["shown"] == threads
    assert told["chosen"] == threads[1]
    assert told["filtered"] == threads[1:]
    assert told["badge"].rstrip("+").isdigit()
    assert int(told["badge"].rstrip("+")) >= 2

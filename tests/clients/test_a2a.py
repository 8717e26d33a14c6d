"""The official client of the A2A protocol, in both versions of the protocol."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.compat.v0_3 import types as v03
from a2a.helpers import proto_helpers
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import (
    TaskNotCancelableError,
    TaskNotFoundError,
)
from google.protobuf.json_format import ParseDict

from greenroom.core.identity import system_assistant_id
from tests.receiving import receiving
from tests.reliability.witness import process_of
from tests.serving import Served
from tests.waiting import BOUND_S

TOKENS = "tok0 tok1 tok2 tok3 tok4 "
WORDS = "".join(f"tok{number} " for number in range(10))


class Agent:
    """A client of an assistant, made from its card.

    Args:
        version: of the protocol, as the client chooses it by the card.
    """

    def __init__(self, http: httpx.AsyncClient, card: a2a.AgentCard, version: str) -> None:
        wanted = [each for each in card.supported_interfaces if each.protocol_version == version]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(wanted)
        self.client: Client = ClientFactory(ClientConfig(httpx_client=http)).create(card)
        waits = ClientConfig(httpx_client=http, streaming=False)
        self.waiting: Client = ClientFactory(waits).create(card)

    async def send(self, *parts: Any, **more: Any) -> a2a.Task:
        """The task that a message ends in, without a stream."""
        async with asyncio.timeout(BOUND_S):
            async for answer in self.waiting.send_message(sent(*parts, **more)):
                return answer.task
        raise AssertionError("nothing was answered")

    async def stream(self, *parts: Any, **more: Any) -> list[a2a.StreamResponse]:
        async with asyncio.timeout(BOUND_S):
            return [event async for event in self.client.send_message(sent(*parts, **more))]

    async def get(self, task_id: str) -> a2a.Task:
        return await self.client.get_task(a2a.GetTaskRequest(id=task_id))


def sent(*parts: Any, at_once: bool = False, **more: Any) -> a2a.SendMessageRequest:
    """Each part is a text, or data."""
    given = [{"text": part} if isinstance(part, str) else {"data": part} for part in parts]
    about = {"role": "ROLE_USER", "messageId": str(uuid.uuid4()), "parts": given, **more}
    params = {"message": about, "configuration": {"returnImmediately": at_once}}
    return ParseDict(params, a2a.SendMessageRequest())


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=BOUND_S) as http:
        yield http


@pytest.fixture(params=["1.0", "0.3"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def agent_of(http: httpx.AsyncClient, server: Served, version: str):
    async def agent(graph: str, mount: str = "") -> Agent:
        resolver = A2ACardResolver(http, server.url + mount)
        params = {"assistant_id": system_assistant_id(graph)}
        card = await resolver.get_agent_card(http_kwargs={"params": params})
        assert card.name == graph
        return Agent(http, card, version)

    return agent


def texts(task: a2a.Task) -> list[str]:
    return [part.text for artifact in task.artifacts for part in artifact.parts]


async def test_a_message_is_answered_and_the_next_one_is_in_its_context(agent_of, server, http):
    agent = await agent_of("agent")
    first = await agent.send("hi")
    assert first.status.state == a2a.TASK_STATE_COMPLETED
    assert texts(first) == [TOKENS]
    found = await agent.get(first.id)
    assert found.artifacts == first.artifacts
    second = await agent.send("again", contextId=first.context_id)
    assert (second.context_id, second.id != first.id) == (first.context_id, True)
    said = [(m.role, m.parts[0].text, m.task_id) for m in second.history]
    assert said == [
        (a2a.ROLE_USER, "hi", ""),
        (a2a.ROLE_AGENT, TOKENS, ""),
        (a2a.ROLE_USER, "again", second.id),
        (a2a.ROLE_AGENT, TOKENS, second.id),
    ]
    # A context is a thread and a task a run.
    run = await http.get(f"{server.url}/threads/{first.context_id}/runs/{first.id}")
    assert run.json()["status"] == "success"


@pytest.mark.parametrize("version", ["1.0"])
async def test_a_large_file_arrives(agent_of, server, http):
    agent = await agent_of("agent")
    file = a2a.Part(raw=b"x" * 3_000_000, media_type="application/pdf", filename="a.pdf")
    request = sent("Read it.")
    request.message.parts.append(file)
    async with asyncio.timeout(BOUND_S):
        answers = [answer async for answer in agent.waiting.send_message(request)]
    thread = await http.get(f"{server.url}/threads/{answers[0].task.context_id}")
    told, block = thread.json()["values"]["messages"][0]["content"]
    assert told == {"type": "text", "text": "Read it."}
    assert block.pop("base64") == base64.b64encode(file.raw).decode()
    assert block == {
        "type": "file",
        "mime_type": "application/pdf",
        "extras": {"filename": "a.pdf"},
    }
    said = answers[0].task.history[0].parts
    assert said[1].raw == file.raw


async def test_a_stream_tells_the_tokens_as_they_come(agent_of):
    agent = await agent_of("agent", "/api")
    events = await agent.stream("hi", {"delay": 0.05})
    assert events[0].task.status.state in (a2a.TASK_STATE_SUBMITTED, a2a.TASK_STATE_WORKING)
    updates = [e.status_update.status for e in events if e.HasField("status_update")]
    told = [status.message.parts[0].text for status in updates if status.message.parts]
    assert len(told) > 1
    assert all(TOKENS.startswith(text) for text in told)
    assert told == sorted(told, key=len)
    assert events[-2].artifact_update.artifact.parts[0].text == TOKENS
    assert updates[-1].state == a2a.TASK_STATE_COMPLETED


async def test_an_interrupt_is_answered_in_its_task(agent_of):
    agent = await agent_of("approval")
    task = await agent.send({"question": "sure?"})
    assert task.status.state == a2a.TASK_STATE_INPUT_REQUIRED
    asked = proto_helpers.get_data_parts(task.artifacts[0].parts)
    assert asked[0]["value"] == {"question": "sure?"}
    assert (await agent.get(task.id)).status.state == a2a.TASK_STATE_INPUT_REQUIRED
    events = await agent.stream("yes", taskId=task.id, contextId=task.context_id)
    assert events[0].task.id == task.id
    (artifact,) = [e.artifact_update.artifact for e in events if e.HasField("artifact_update")]
    result = proto_helpers.get_data_parts(artifact.parts)
    assert result == [{"question": "sure?", "answer": "yes", "done": True}]
    assert (await agent.get(task.id)).status.state == a2a.TASK_STATE_COMPLETED


async def test_a_task_that_waits_is_canceled_and_its_thread_waits_no_more(agent_of, server, http):
    agent = await agent_of("approval")
    task = await agent.send({"question": "sure?"})
    canceled = await agent.client.cancel_task(a2a.CancelTaskRequest(id=task.id))
    assert canceled.status.state == a2a.TASK_STATE_CANCELED
    assert (await agent.get(task.id)).status.state == a2a.TASK_STATE_CANCELED
    thread = (await http.get(f"{server.url}/threads/{task.context_id}")).json()
    assert (thread["status"], thread["interrupts"]) == ("idle", {})
    with pytest.raises(TaskNotCancelableError):
        await agent.client.cancel_task(a2a.CancelTaskRequest(id=task.id))
    again = await agent.send({"question": "really?"}, contextId=task.context_id)
    assert again.id != task.id
    assert again.status.state == a2a.TASK_STATE_INPUT_REQUIRED


@pytest.mark.parametrize("version", ["1.0"])
async def test_the_tasks_of_a_context_are_listed(agent_of):
    agent = await agent_of("agent")
    first = await agent.send("hi")
    second = await agent.send("again", contextId=first.context_id)
    asked = a2a.ListTasksRequest(context_id=first.context_id, page_size=1, include_artifacts=True)
    page = await agent.client.list_tasks(asked)
    assert [task.id for task in page.tasks] == [second.id]
    assert (page.total_size, page.page_size) == (2, 1)
    assert texts(page.tasks[0]) == [TOKENS]
    asked.page_token = page.next_page_token
    rest = await agent.client.list_tasks(asked)
    assert ([task.id for task in rest.tasks], rest.next_page_token) == ([first.id], "")


async def test_a_task_is_canceled_and_then_no_more(agent_of):
    agent = await agent_of("slow")
    task = await agent.send({"steps": 600, "delay": 0.1}, at_once=True)
    assert task.status.state == a2a.TASK_STATE_SUBMITTED
    canceled = await agent.client.cancel_task(a2a.CancelTaskRequest(id=task.id))
    assert canceled.status.state == a2a.TASK_STATE_CANCELED
    with pytest.raises(TaskNotCancelableError):
        await agent.client.cancel_task(a2a.CancelTaskRequest(id=task.id))


async def test_who_subscribes_again_gets_the_whole_text(agent_of, tmp_path: Path):
    agent = await agent_of("gated")
    gate = tmp_path / "gate"
    task = await agent.send("hi", {"gate": str(gate)}, at_once=True)
    async with asyncio.timeout(BOUND_S):
        events = []
        async for event in agent.client.subscribe(a2a.SubscribeToTaskRequest(id=task.id)):
            events.append(event)
            told = event.status_update.status.message.parts
            if told and "tok4" in told[0].text:
                gate.touch()
    assert events[0].task.id == task.id
    assert events[-2].artifact_update.artifact.parts[0].text == WORDS
    assert events[-1].status_update.status.state == a2a.TASK_STATE_COMPLETED


@pytest.mark.parametrize("version", ["1.0"])
async def test_a_task_survives_the_death_of_its_process(agent_of, server: Served):
    agent = await agent_of("slow")
    async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S) as http:
        task = await agent.send({"steps": 20, "delay": 0.2}, at_once=True)
        (await process_of(http, task.id)).kill()
        subscribed = agent.client.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
        async with asyncio.timeout(BOUND_S):
            events = [event async for event in subscribed]
    assert events[-1].status_update.status.state == a2a.TASK_STATE_COMPLETED
    found = await agent.get(task.id)
    (result,) = proto_helpers.get_data_parts(found.artifacts[0].parts)
    assert len(result["trail"]) == 20


async def test_the_errors_are_those_of_the_protocol(agent_of):
    agent = await agent_of("agent")
    with pytest.raises(TaskNotFoundError):
        await agent.get(str(uuid.uuid4()))
    config = a2a.TaskPushNotificationConfig(task_id=str(uuid.uuid4()), url="http://x.example")
    with pytest.raises(TaskNotFoundError):
        await agent.client.create_task_push_notification_config(config)


async def test_a_receiver_is_told_what_becomes_of_a_task(agent_of, version: str):
    agent = await agent_of("approval")
    async with receiving() as receiver:
        request = sent({"question": "sure?"})
        about = a2a.AuthenticationInfo(scheme="Bearer", credentials="secret")
        config = a2a.TaskPushNotificationConfig(
            id="c1", url=receiver.url, token="mine", authentication=about
        )
        request.configuration.task_push_notification_config.CopyFrom(config)
        async with asyncio.timeout(BOUND_S):
            async for answer in agent.waiting.send_message(request):
                task = answer.task
            told = await receiver.next()
            assert state_of(told.body, task) == a2a.TASK_STATE_INPUT_REQUIRED
            assert told.headers["x-a2a-notification-token"] == "mine"
            assert told.headers["authorization"] == "Bearer secret"
            await agent.send("yes", taskId=task.id, contextId=task.context_id)
            assert state_of((await receiver.next()).body, task) == a2a.TASK_STATE_COMPLETED
        named = {"task_id": task.id, "id": "c1"}
        asked = a2a.GetTaskPushNotificationConfigRequest(**named)
        found = await agent.client.get_task_push_notification_config(asked)
        assert (found.url, found.token) == (receiver.url, "mine")
        delete = a2a.DeleteTaskPushNotificationConfigRequest(**named)
        await agent.client.delete_task_push_notification_config(delete)
        of_task = a2a.ListTaskPushNotificationConfigsRequest(task_id=task.id)
        left = await agent.client.list_task_push_notification_configs(of_task)
        assert list(left.configs) == []


async def test_a_receiver_is_told_in_spite_of_a_killed_process(agent_of, http, server):
    agent = await agent_of("slow")
    async with receiving() as receiver, asyncio.timeout(BOUND_S):
        task = await agent.send({"steps": 10, "delay": 0.2}, at_once=True)
        config = a2a.TaskPushNotificationConfig(task_id=task.id, url=receiver.url)
        await agent.client.create_task_push_notification_config(config)
        async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_S) as based:
            (await process_of(based, task.id)).kill()
        assert state_of((await receiver.next()).body, task) == a2a.TASK_STATE_COMPLETED
        assert receiver.deliveries.empty()


def state_of(body: Any, task: a2a.Task) -> Any:
    """The state that a notification tells of a task, in either version's words."""
    if "task" in body:
        found = ParseDict(body, a2a.StreamResponse()).task
        assert (found.id, found.context_id) == (task.id, task.context_id)
        return found.status.state
    old = v03.Task.model_validate({**body, "history": []})
    assert (old.id, old.context_id) == (task.id, task.context_id)
    name = f"TASK_STATE_{old.status.state.value.upper().replace('-', '_')}"
    return a2a.TaskState.Value(name)

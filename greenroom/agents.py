"""For agents of ``langchain.agents.create_agent``: what is said to a run reaches the model.

    agent = create_agent(model, tools, middleware=[greenroom.SteeringMiddleware()])

Needs the package ``langchain``, which Greenroom does not install. Where an agent is not executed by
Greenroom, nobody says anything, and the middleware does nothing.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, NotRequired, cast

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ModelRequest,
    ModelResponse,
    PrivateStateAttr,
)
from langchain_core.messages import BaseMessage
from langchain_core.messages.utils import convert_to_messages

from greenroom.core.waiting import cancelled
from greenroom.hearing import Said, inbox


class SteeringState(AgentState[Any]):
    """The state of an agent that listens. The key says so to the server; it has no value."""

    greenroom_listens: NotRequired[Annotated[bool, PrivateStateAttr]]


class SteeringMiddleware(AgentMiddleware[Any, Any, Any]):
    """Puts what is said to a run before the agent's next model call.

    Between a model's call of a tool and the tool's answer nothing is put: models refuse that.

    Args:
        cut_off: ends a model call that is under way when something is said, and makes it again
            with what was said. What the call has streamed until then is in no state. False: the
            next model call has it. Something with other keys than ``messages`` cuts off nothing.
    """

    state_schema = SteeringState

    def __init__(self, *, cut_off: bool = True) -> None:
        super().__init__()
        self._cuts_off = cut_off

    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return _update(inbox().take())

    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        return _update(inbox().take())

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        return handler(request)  # a call on a thread cannot be cut off

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        if not self._cuts_off:
            return await handler(request)
        said: list[BaseMessage] = []
        while True:
            messages = cast("list[Any]", [*request.messages, *said])
            response = await _until_said(handler, request.override(messages=messages))
            if response is not None:
                break
            said += _messages(inbox().take())
        if not said:
            return response
        # The messages were in no state before: they are part of what this call adds.
        return ModelResponse(
            result=[*said, *response.result], structured_response=response.structured_response
        )


async def _until_said(
    handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    request: ModelRequest[Any],
) -> ModelResponse[Any] | None:
    """Makes a model call; None if something was said before it was over."""
    calling = asyncio.ensure_future(handler(request))
    hearing = asyncio.ensure_future(_messages_arrive())
    try:
        await asyncio.wait((calling, hearing), return_when=asyncio.FIRST_COMPLETED)
        return calling.result() if calling.done() else None
    finally:
        await cancelled([calling, hearing])


async def _messages_arrive() -> None:
    """Returns when what waits is messages and nothing else."""
    await inbox().arrival()
    if any(set(each.update) != {"messages"} for each in inbox().look()):
        await asyncio.Event().wait()  # the next model call has it


def _update(said: Sequence[Said]) -> dict[str, Any] | None:
    """Returns what was said as one update: all messages, and the last value of any other key."""
    update: dict[str, Any] = {}
    for each in said:
        update |= {key: value for key, value in each.update.items() if key != "messages"}
    if messages := _messages(said):
        update["messages"] = messages
    return update or None


def _messages(said: Sequence[Said]) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    for each in said:
        given = each.update.get("messages") or []
        messages += convert_to_messages(given if isinstance(given, list) else [given])
    return messages

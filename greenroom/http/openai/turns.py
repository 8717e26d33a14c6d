"""A request's run: the thread that it is on, and its input, or the answer that it brings.

no thread             a temporary one, with all messages; it goes with its run
a thread without      all messages
a state
a thread with one     the messages that it does not have (`inputs.news`)
a thread that waits   the answers to its interrupts (`inputs.resume_of`)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from greenroom.core.errors import THREAD_OR_ASSISTANT_NOT_FOUND, BadRequest, Conflict, NotFound
from greenroom.core.ports import JsonObject
from greenroom.http.creation import NewRun, create_run
from greenroom.http.edge import Edge, dialect_of, edge_of
from greenroom.http.following import created
from greenroom.http.gates import makes_thread
from greenroom.http.idempotency import Ids, once
from greenroom.http.openai import inputs, states
from greenroom.http.openai.outputs import INTERRUPT_TOOL
from greenroom.http.openai.served import Model
from greenroom.http.openai.states import State
from greenroom.wire.models import RunCreate

OF_OPENAI = "openai"
"""The key of a run's metadata."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The thread of a request.

    Attributes:
        thread_id: None for a new one.
        temporary: it goes with its run.
        state: None: it has none.
        waits: it waits for an answer, and nothing of it runs.
    """

    thread_id: str | None = None
    temporary: bool = False
    state: State | None = None
    waits: bool = False


async def place_of(edge: Edge, thread_id: str) -> Place:
    """Returns the thread that a client names; it need not exist."""
    found = await states.of_thread(edge, thread_id)
    if found is None:
        return Place(thread_id=thread_id)
    state, status = found
    if status == "busy":
        # What its run is about to add is not known yet.
        return Place(thread_id=thread_id, state=State())
    waits = status == "interrupted" and bool(state.interrupts)
    known = state if state.messages or waits else None
    return Place(thread_id=thread_id, state=known, waits=waits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What a request wants of its run.

    Attributes:
        messages: as `inputs` makes them.
        configurable: of the run's config.
        metadata: the client's.
        own: what the run remembers of the request, in its metadata.
        lasts: a client that leaves does not cancel the run.
        resumable: its events are kept.
    """

    model: Model
    place: Place
    messages: list[JsonObject]
    configurable: JsonObject
    metadata: JsonObject = field(default_factory=dict[str, object])
    own: JsonObject = field(default_factory=dict[str, object])
    lasts: bool = False
    resumable: bool = False

    def body(self, run_id: str) -> JsonObject:
        """Returns the body of the run.

        Raises:
            InvalidRequest, BadRequest: the messages do not fit the thread.
        """
        own = {**self.own, "after": self._after()}
        about: JsonObject = {
            "assistant_id": self.model.assistant_id,
            "metadata": {**self.metadata, OF_OPENAI: own},
            "config": {"configurable": self.configurable},
            "stream_mode": ["messages-tuple"],
            "stream_resumable": self.resumable,
            "on_disconnect": "continue" if self.lasts else "cancel",
            "on_completion": "delete" if self.place.temporary else "keep",
            "if_not_exists": "create",
        }
        state = self.place.state
        if state is not None and state.checkpoint_id is not None:
            about["checkpoint_id"] = state.checkpoint_id
        if state is not None and self.place.waits:
            # By the ids of the interrupts and strictly, so of two answers to one question the
            # second changes nothing.
            resume = inputs.resume_of(inputs.news(self.messages), state.interrupt_ids())
            return {
                **about,
                "command": {"resume": resume},
                "strict_resume": True,
                "multitask_strategy": "reject",
            }
        messages = inputs.identified(self._new(), run_id)
        return {**about, "input": {"messages": messages}, "multitask_strategy": "enqueue"}

    def _new(self) -> list[JsonObject]:
        if self.place.temporary:
            _refuse_answers_without_thread(self.messages)
        if self.place.state is None:
            return self.messages
        new = inputs.news(self.messages)
        if not any(each["role"] != "system" for each in new):
            raise BadRequest(
                "The thread has all of these messages already: send at least one that comes after"
                " the assistant's last one."
            )
        if self.place.state.messages:
            _refuse_strange_answers(new, self.place.state.call_ids())
        return new

    def _after(self) -> str | None:
        return self.place.state.last_id() if self.place.state is not None else None


def _refuse_answers_without_thread(messages: list[JsonObject]) -> None:
    for message in messages:
        for call in message.get("tool_calls", ()):
            if call["function"]["name"] == INTERRUPT_TOOL:
                raise BadRequest(
                    f"A call of '{INTERRUPT_TOOL}' is answered on its thread, and this request has"
                    " none: name one in 'metadata.thread_id' from the first request on."
                )


def _refuse_strange_answers(messages: list[JsonObject], call_ids: set[str]) -> None:
    for message in messages:
        if message["role"] == "tool" and message["tool_call_id"] not in call_ids:
            raise BadRequest(
                f"The call '{message['tool_call_id'][:255]}' waits for no answer: no message of the"
                " thread has it, or it was a question that is answered already."
            )


async def begun(request: Request, turn: Turn) -> NewRun:
    """Admits the run of a request; it is cancelled if the client disconnects meanwhile.

    Raises:
        GreenroomError: as of `Turn.body`, `once` and `create_run`.
    """
    edge, dialect = edge_of(request), dialect_of(request)

    async def create(ids: Ids) -> NewRun:
        thread_id = turn.place.thread_id or ids.new_id()
        if turn.place.temporary:
            run = ids.stateless_run(thread_id=thread_id)
        else:
            run = ids.run_on(thread_id)
        # Of a run that an earlier request has made, the thread has another state by now.
        found = {} if run.is_made else turn.body(run.run_id)
        body = RunCreate.model_validate({"assistant_id": turn.model.assistant_id, **found})
        if run.stateless:
            return await create_run(edge, dialect, body, run)
        # Without the run's metadata, which a thread hands to all later runs.
        scope, metadata = await makes_thread(
            edge, thread_id=thread_id, assistant_id=turn.model.assistant_id
        )
        try:
            await edge.records.create_thread(
                thread_id, metadata=metadata, if_exists="do_nothing", ttl=None, scope=scope
            )
        except Conflict:
            if scope.is_everything:
                raise
            raise NotFound(THREAD_OR_ASSISTANT_NOT_FOUND) from None
        return await create_run(edge, dialect, body, run)

    return await created(edge, once(request, create))

"""What a run has said: its answer, its calls of tools, its questions, and the tokens it took.

a call that the graph has answered itself    no call for the client
a call without an answer                     the client's to answer
an interrupt                                 a call of the tool `INTERRUPT_TOOL`, likewise
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenroom.core.ports import JsonObject
from greenroom.http.openai.states import State, calls_of, made_by, text_of
from greenroom.wire.encoding import dumps, is_object

INTERRUPT_TOOL = "interrupt"

_INCOMPLETE = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A call that the client is to answer; ``arguments`` are JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a run has said.

    Attributes:
        messages: those that it has added: of the assistant, of tools, of users.
        interrupts: the questions that wait for an answer.
    """

    messages: list[JsonObject]
    interrupts: list[JsonObject]

    @classmethod
    def by(cls, state: State, run_id: str, after: str | None) -> Said:
        """Returns what a run has said, of the state that it has left; ``after`` as of `made_by`."""
        return cls(messages=made_by(state, run_id, after), interrupts=state.interrupts)

    def answer(self) -> str | None:
        """Returns the text of the last message, or the question of an interrupt that is a text."""
        questions = [each.get("value") for each in self.interrupts]
        texts = [each for each in questions if isinstance(each, str)]
        if questions:
            return "\n\n".join(texts) or None
        last = self._last()
        return (text_of(last) if last is not None else "") or None

    def calls(self) -> list[ToolCall]:
        """Returns the calls that wait for the client's answer."""
        if self.interrupts:
            # The graph itself decides about other calls once it goes on.
            return [_question(each) for each in self.interrupts]
        last = self._last()
        if last is None:
            return []
        answered = self.answered()
        return [_tool_call(call) for call in calls_of(last) if str(call.get("id")) not in answered]

    def answered(self) -> dict[str, JsonObject]:
        """Returns the answers that the graph itself has given, by the ids of their calls."""
        tools = [each for each in self.messages if each["type"] == "tool"]
        return {str(each.get("tool_call_id")): each for each in tools}

    def incomplete(self) -> str | None:
        """Returns why the last answer was cut: ``length`` or ``content_filter``; None if it was
        not."""
        last = self._last()
        about: Any = last.get("response_metadata") if last is not None else None
        told: Any = about if is_object(about) else {}
        return _INCOMPLETE.get(str(told.get("finish_reason") or told.get("stop_reason")))

    def usage(self) -> Usage | None:
        """Returns the tokens of all answers of models; None if no model has told them."""
        told = [each.get("usage_metadata") for each in self.messages]
        counts = [Usage.of(each) for each in told if is_object(each)]
        return sum(counts, Usage()) if counts else None

    def _last(self) -> JsonObject | None:
        return next((each for each in reversed(self.messages) if each["type"] == "ai"), None)


def _question(interrupt: JsonObject) -> ToolCall:
    arguments = dumps({"value": interrupt.get("value")}).decode()
    return ToolCall(id=str(interrupt.get("id")), name=INTERRUPT_TOOL, arguments=arguments)


def _tool_call(call: JsonObject) -> ToolCall:
    return ToolCall(
        id=str(call.get("id")),
        name=str(call.get("name")),
        arguments=dumps(call.get("args") or {}).decode(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Counts of tokens."""

    given: int = 0
    cached: int = 0
    cache_written: int = 0
    said: int = 0
    reasoning: int = 0

    @classmethod
    def of(cls, told: JsonObject) -> Usage:
        """Returns the counts of a message's ``usage_metadata``."""
        details: Any = told.get("input_token_details") or {}
        of_output: Any = told.get("output_token_details") or {}
        return cls(
            given=_count(told.get("input_tokens")),
            cached=_count(details.get("cache_read")),
            cache_written=_count(details.get("cache_creation")),
            said=_count(told.get("output_tokens")),
            reasoning=_count(of_output.get("reasoning")),
        )

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            given=self.given + other.given,
            cached=self.cached + other.cached,
            cache_written=self.cache_written + other.cache_written,
            said=self.said + other.said,
            reasoning=self.reasoning + other.reasoning,
        )

    def of_completion(self) -> JsonObject:
        return {
            "prompt_tokens": self.given,
            "completion_tokens": self.said,
            "total_tokens": self.given + self.said,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }

    def of_response(self) -> JsonObject:
        return {
            "input_tokens": self.given,
            "input_tokens_details": {
                "cached_tokens": self.cached,
                "cache_write_tokens": self.cache_written,
            },
            "output_tokens": self.said,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.given + self.said,
        }


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0

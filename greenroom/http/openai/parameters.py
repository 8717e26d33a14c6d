"""The parameters of a request: which the graph gets, which it must know, which are refused.

A graph decides how its model is called, so the server can force no parameter on it. All that is
given goes into the run's ``configurable``, under the names that LangChain's models have:

    passed on    `PASSED`: sampling and the like; whether it has an effect is the graph's affair
    wanted       `WANTED`: the answer would be wrong without it, so the context schema of the graph
                 must have a key of this name
    refused      `refuse_unserved`: nothing here could give it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greenroom.core.errors import InvalidRequest
from greenroom.core.ports import JsonObject
from greenroom.http.openai.served import Model
from greenroom.wire.encoding import is_object
from greenroom.wire.openai_models import ChatCompletionCreate, OpenAiCreate, ResponseCreate

PASSED: Mapping[str, str] = {
    **{
        name: name
        for name in (
            *("temperature", "top_p", "parallel_tool_calls", "user", "safety_identifier"),
            *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
            *("service_tier", "frequency_penalty", "presence_penalty", "seed", "stop"),
            *("reasoning_effort", "reasoning", "verbosity"),
        )
    },
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
}
"""Where the graph finds a field, by the field."""

WANTED = ("tools", "tool_choice", "response_format", "logit_bias")

_NO_TOOL_CHOICE = (None, "auto", "none")
_TEXT = {"type": "text"}
_LOGPROBS = "message.output_text.logprobs"


def configurable_of(asked: OpenAiCreate, model: Model) -> JsonObject:
    """Returns the ``configurable`` of a request's run.

    Raises:
        InvalidRequest: the graph does not know a parameter that the answer depends on, or nothing
            here can give what the request asks for.
    """
    refuse_unserved(asked)
    given = asked.model_dump(exclude_none=True)
    found = {key: given[name] for name, key in PASSED.items() if name in given}
    if is_object(text := given.get("text")):
        given["response_format"] = text.get("format")
        if text.get("verbosity") is not None:
            found["verbosity"] = text["verbosity"]
    for name in WANTED:
        value = given.get(name)
        if not _says_something(name, value, given):
            continue
        if name not in model.context:
            field = "text.format" if name == "response_format" and "text" in given else name
            raise InvalidRequest(
                f"{field} has no effect on the model '{model.name[:255]}': leave it out, or let the"
                f" context schema of its graph '{model.assistant['graph_id']}' have"
                f" '{name}', and the graph heed it."
            )
        found[name] = value
    return found


def _says_something(name: str, value: Any, given: JsonObject) -> bool:
    match name:
        case "tool_choice":
            return value not in _NO_TOOL_CHOICE and bool(given.get("tools"))
        case "response_format":
            return value is not None and value != _TEXT
        case _:
            return bool(value)


def refuse_unserved(asked: OpenAiCreate) -> None:
    """Raises InvalidRequest for the first field that nothing here can honour."""
    for field, is_asked, why in (*_of_both(asked), *_of_chat(asked), *_of_response(asked)):
        if is_asked:
            raise InvalidRequest(f"{field} {why}")


Rule = tuple[str, bool, str]
"""A field, whether the request asks for what it means, and the rest of the sentence."""


def _of_both(asked: OpenAiCreate) -> list[Rule]:
    without_stream = asked.stream_options is not None and not asked.stream
    return [
        (
            "stream_options",
            without_stream,
            "is for streams: set 'stream' to true, or leave it out.",
        ),
        ("top_logprobs", bool(asked.top_logprobs), "is not served; leave it out."),
        ("moderation", asked.moderation is not None, "is not served; leave it out."),
    ]


def _of_chat(asked: OpenAiCreate) -> list[Rule]:
    if not isinstance(asked, ChatCompletionCreate):
        return []
    gone = "is replaced by 'tools'; use that."
    return [
        ("n", asked.n not in (None, 1), "must be 1: a run has one answer. Send several requests."),
        ("logprobs", bool(asked.logprobs), "is not served; leave it out."),
        ("audio", asked.audio is not None, "is not served; leave it out."),
        ("modalities", (asked.modalities or ["text"]) != ["text"], 'must be ["text"].'),
        ("prediction", asked.prediction is not None, "is not served; leave it out."),
        ("web_search_options", asked.web_search_options is not None, "is not served; a graph has"
         " its own tools."),
        ("functions", bool(asked.functions), gone),
        ("function_call", asked.function_call not in _NO_TOOL_CHOICE, gone),
        ("store", bool(asked.store), "must not be true: a chat completion is not kept. Give"
         " 'metadata.thread_id', or use /v1/responses."),
    ]  # fmt: skip


def _of_response(asked: OpenAiCreate) -> list[Rule]:
    if not isinstance(asked, ResponseCreate):
        return []
    named = [
        *("access_programs", "background_options", "context_management", "image"),
        *("max_tool_calls", "prompt"),
    ]
    forgets = asked.store is False
    return [
        *((name, getattr(asked, name) is not None, "is not served; leave it out.")
          for name in named),
        ("include", _LOGPROBS in (asked.include or ()), f"must not have {_LOGPROBS}."),
        ("truncation", asked.truncation == "auto", "must be 'disabled': the graph decides what its"
         " model sees."),
        ("store", forgets and bool(asked.background), "must not be false in the background: nobody"
         " could ask for the response."),
        ("store", forgets and _has_thread(asked), "must not be false for a response on a thread,"
         " which keeps it."),
        ("previous_response_id", asked.previous_response_id is not None and _names_thread(asked),
         "names the thread itself; leave out 'conversation' and 'metadata.thread_id'."),
        ("conversation", asked.conversation is not None and _in_metadata(asked), "is a thread as"
         " 'metadata.thread_id' is; give one of them."),
    ]  # fmt: skip


def _in_metadata(asked: OpenAiCreate) -> bool:
    return "thread_id" in (asked.metadata or {})


def _names_thread(asked: ResponseCreate) -> bool:
    return asked.conversation is not None or _in_metadata(asked)


def _has_thread(asked: ResponseCreate) -> bool:
    return asked.previous_response_id is not None or _names_thread(asked)

"""Models of the bodies of the OpenAI-compatible routes.

Every field that OpenAI documents is here. What becomes of each: `greenroom.http.openai.parameters`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from greenroom.wire.models import Body, Json, Name, Object

Metadata = Annotated[dict[str, str], Field(max_length=16)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class StreamOptions(TypedDict, total=False):
    """``include_obfuscation`` asks for padding against listeners, of which there is none."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    include_usage: bool | None
    include_obfuscation: bool | None


class OpenAiCreate(Body):
    """The fields that both routes have."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    store: bool | None = None

    temperature: Number | None = None
    top_p: Number | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Object | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None

    tools: list[Object] | None = None
    tool_choice: str | Object | None = None

    top_logprobs: int | None = None
    moderation: Object | None = None


class ChatCompletionCreate(OpenAiCreate):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[Object], Field(min_length=1)]

    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    response_format: Object | None = None
    logit_bias: Object | None = None

    n: int | None = None
    logprobs: bool | None = None
    audio: Object | None = None
    modalities: list[str] | None = None
    prediction: Object | None = None
    web_search_options: Object | None = None
    function_call: str | Object | None = None
    functions: list[Object] | None = None


class ResponseCreate(OpenAiCreate):
    """The body of ``POST /v1/responses``."""

    input: str | list[Object] | Json
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | Object | None = None
    background: bool | None = None

    max_output_tokens: Count | None = None
    reasoning: Object | None = None

    text: Object | None = None

    access_programs: Any = None
    background_options: Object | None = None
    context_management: list[Object] | None = None
    image: Object | None = None
    include: list[str] | None = None
    max_tool_calls: int | None = None
    prompt: Object | None = None
    truncation: Literal["auto", "disabled"] | None = None


OPENAI_BODIES: tuple[type[Body], ...] = (ChatCompletionCreate, ResponseCreate)

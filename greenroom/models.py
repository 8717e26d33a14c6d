"""A chat model that is a Ray Serve deployment of the same cluster, called without HTTP.

    graph's node ──> ServeChatModel ──handle──> replica of the deployment (perhaps with a GPU)
                          ^                          |
                          └──────── chunks ──────────┘

The deployment has a method ``chat(request)`` that is, or returns, a (possibly asynchronous)
generator. ``LLMServer`` of `ray.serve.llm` has the same method, so its applications are called like
your own (``ray_llm=True``).

*request* is the body of OpenAI's chat completions as a dict: ``messages``, ``stream: True``, and,
where they were given, ``model``, ``tools``, ``tool_choice``, ``stop`` and all other bound
arguments.

Each item of the generator is a chat completion chunk, or a list of chunks: a dict
(``{"choices": [{"delta": {"content": "Hi"}}]}``), an object with `model_dump`, or ``data: {...}``
lines of a server-sent event. ``{"error": {"message": ...}}`` ends the run with an error.

The deployment may batch: many runs call it at once, each with a request of its own. When a run is
cancelled, or its reader stops half-way, the request is cancelled too: the generator gets
`asyncio.CancelledError` at its next await.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr


class ModelError(RuntimeError):
    """The model answered with an error, or with an item that is not a chunk."""


class ServeChatModel(BaseChatModel):
    """Calls a deployment by its handle; streams tokens, supports tools and structured output.

    The model looks for its deployment at its first call and not when it is made. So a graph with
    this model can be imported in a process without Ray.

    Attributes:
        app: the name of the Serve application.
        deployment: the name of a deployment of the application; None for its ingress deployment.
            The ingress of `ray.serve.llm.build_openai_app` is a router that speaks HTTP only; name
            the server instead: ``LLMServer:<model id>``, as `serve status` shows it.
        method: the name of the deployment's method.
        model: the request's ``model``; needed if one deployment serves several models.
        model_kwargs: keys of every request: ``{"temperature": 0, "max_tokens": 200}``.
        ray_llm: whether the deployment is one of `ray.serve.llm`, which takes a class of its own
            instead of a dict. The replica makes that object, so the graph's process needs no vLLM.

    Raises:
        ray.serve.exceptions.RayServeException: on a call, if there is no such application.
        ModelError: on a call, if the model answers with an error or with an invalid chunk.
        Exception: on a call, the exception that the deployment's method raised.
    """

    app: str
    deployment: str | None = None
    method: str = "chat"
    model: str | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    ray_llm: bool = False

    _handle: Any = PrivateAttr(default=None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        if "ray" in sys.modules:
            # A graph that is imported in an actor: the second that this import takes belongs to
            # warming it up, not to its first run.
            import ray.serve  # noqa: F401

    def __getstate__(self) -> dict[Any, Any]:
        # Neither leaves its process; they come anew where a graph that was shipped arrives.
        return {**super().__getstate__(), "__pydantic_private__": {"_handle": None}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._lock = threading.Lock()

    @property
    def _llm_type(self) -> str:
        return "ray-serve"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"app": self.app, "deployment": self.deployment, "model": self.model}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Returns the model with tools, in OpenAI's form.

        Args:
            tools: the tools, as LangChain accepts them.
            tool_choice: ``auto``, ``none``, ``any`` or ``required`` (also True), or a tool's name.
        """
        if tool_choice is True or tool_choice == "any":
            tool_choice = "required"
        elif isinstance(tool_choice, str) and tool_choice not in ("auto", "none", "required"):
            tool_choice = {"type": "function", "function": {"name": tool_choice}}
        if tool_choice:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    # LangGraph streams tokens to `messages` clients by `_astream`, also where a node says
    # `ainvoke`; without such a client the answer is the sum of the same chunks.

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        if self._handle is None:
            await asyncio.to_thread(self._connect)
        response = self._call(messages, stop, kwargs)
        over = False
        try:
            async for item in response:
                for chunk in _chunks(item):
                    yield chunk
            over = True
        except Exception as error:  # what the deployment raised comes wrapped by Ray
            over = True
            raise _unwrapped(error) from error
        finally:
            if not over:
                response.cancel()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if self._handle is None:
            self._connect()
        response = self._call(messages, stop, kwargs)
        over = False
        try:
            for item in response:
                yield from _chunks(item)
            over = True
        except Exception as error:  # what the deployment raised comes wrapped by Ray
            over = True
            raise _unwrapped(error) from error
        finally:
            if not over:
                response.cancel()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _connect(self) -> None:
        """Finds the deployment, once; blocks for some milliseconds."""
        import ray
        from ray import serve

        with self._lock:
            if self._handle is not None:
                return
            if not ray.is_initialized():
                # Serve would start a Ray of its own here, and then not find the application in it.
                raise RuntimeError(
                    f"ServeChatModel calls the application {self.app!r} by its Ray handle, and this"
                    " process is not connected to a Ray. Call ray.init(address=...) first."
                )
            if self.deployment is None:
                handle = serve.get_app_handle(self.app)
            else:
                handle = serve.get_deployment_handle(self.deployment, self.app)
            # Serve gives everybody in a process the same handle, and where it is set up for
            # throughput, that belongs to the loop that was first. A copy is a fresh one, and this
            # one can be used from the threads of nodes that are no coroutines too.
            handle = copy.copy(handle)
            handle._init(_run_router_in_separate_loop=True)
            self._handle = handle.options(method_name=self.method, stream=True)

    def _call(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> Any:
        body: dict[str, Any] = {
            "messages": convert_to_openai_messages(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.model_kwargs,
            **kwargs,
        }
        if self.model is not None:
            body["model"] = self.model
        if stop:
            body["stop"] = stop
        return self._handle.remote(_LaterRequest(body) if self.ray_llm else body)


class _LaterRequest:
    """A request of `ray.serve.llm` that is constructed when the replica unpickles it.

    Its class comes with vLLM (or SGLang), which is installed beside the model only. Serve's routers
    read ``messages`` and ``model`` on this side.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.messages = body["messages"]
        self.model = body.get("model")

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], Any], tuple[dict[str, Any]]]:
        # Within a function, so that it travels by value: replicas need not have Greenroom either.
        def make(body: dict[str, Any]) -> Any:
            from ray.serve.llm import openai_api_models

            return openai_api_models.ChatCompletionRequest(**body)

        return make, (self._body,)


def _unwrapped(error: Exception) -> Exception:
    """Returns the exception that the deployment raised, instead of Ray's wrapper."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def _chunks(item: Any) -> Iterator[ChatGenerationChunk]:
    for body in _bodies(item):
        if error := body.get("error"):
            raise ModelError(str(error.get("message", error) if type(error) is dict else error))
        usage = body.get("usage")
        for choice in body.get("choices") or ():
            yield _chunk(choice, body.get("model"))
        if usage:
            yield ChatGenerationChunk(
                message=AIMessageChunk(content="", usage_metadata=_usage(usage))
            )


def _bodies(item: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the chunks of an item: a single one, a list, an object, or server-sent events."""
    if isinstance(item, Mapping):
        yield item
    elif isinstance(item, str):
        lines = [line for line in item.splitlines() if line]
        for line in lines:
            field, _, value = line.partition(":")
            if field == "data" and value.strip() != "[DONE]":
                yield json.loads(value)
            elif field != "data":
                raise ModelError(f"The deployment sent {line[:80]!r}, which is no chunk.")
    elif isinstance(item, list | tuple):
        for each in item:
            yield from _bodies(each)
    elif hasattr(item, "model_dump"):
        yield item.model_dump()
    else:
        raise ModelError(f"The deployment sent {type(item).__name__}, which is no chunk.")


def _chunk(choice: Mapping[str, Any], model: str | None) -> ChatGenerationChunk:
    delta = choice.get("delta") or {}
    # vLLM and others send what a model thinks beside what it says.
    thoughts = delta.get("reasoning_content") or delta.get("reasoning")
    message = AIMessageChunk(
        content=delta.get("content") or "",
        additional_kwargs={"reasoning_content": thoughts} if thoughts else {},
        tool_call_chunks=[
            tool_call_chunk(
                name=(call.get("function") or {}).get("name"),
                args=(call.get("function") or {}).get("arguments"),
                id=call.get("id"),
                index=call.get("index", number),
            )
            for number, call in enumerate(delta.get("tool_calls") or ())
        ],
    )
    reason = choice.get("finish_reason")
    info = {"finish_reason": reason, **({"model_name": model} if model else {})} if reason else None
    return ChatGenerationChunk(message=message, generation_info=info)


def _usage(usage: Mapping[str, Any]) -> UsageMetadata:
    asked, said = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    return UsageMetadata(
        input_tokens=asked, output_tokens=said, total_tokens=usage.get("total_tokens", asked + said)
    )

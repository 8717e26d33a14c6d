"""Loads the embedding of ``store.index``, and calls it.

It is user code, like a graph, and is called in two kinds of processes. In a run actor it belongs to
the run that puts or searches. For a client of the HTTP routes an inspector calls it, in a lane of
its own and with the time-out of a question: a gateway serves streams on its event loop, and code
that blocks, crashes or never answers must not touch them. A synchronous function gets a thread, so
that several calls proceed; the process is replaced if one of them does not come back.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from langchain_core.embeddings import Embeddings
from langgraph.store.base import get_text_at_path

from greenroom.core.errors import ConfigurationError, Unanswered
from greenroom.core.raised import message_of, name_of
from greenroom.core.store import IndexSpec, Vectors
from greenroom.graphs.configuration import Configuration
from greenroom.graphs.import_errors import called_failed
from greenroom.graphs.importing import load_target
from greenroom.graphs.store_section import EMBED, EmbeddingTarget, is_file

THREADS = 8
SHOWN = 300
"""The most characters of an exception's message in a sentence."""

PACKAGES = {
    "azure_ai": "langchain-azure-ai",
    "azure_openai": "langchain-openai",
    "bedrock": "langchain-aws",
    "google_genai": "langchain-google-genai",
    "google_vertexai": "langchain-google-vertexai",
    "mistralai": "langchain-mistralai",
}
"""Packages whose name does not follow from the provider's."""


class Embedder:
    """The embedding of a process.

    Args:
        embedding: a LangChain `Embeddings`, or a function of a list of texts, sync or async.
        spec: the configuration's entry.
    """

    def __init__(self, embedding: Any, spec: IndexSpec) -> None:
        self._spec = spec
        self._hung: set[Future[Any]] = set()
        # Threads of its own: a call that hangs must not keep one from the graphs of a process.
        self._threads: ThreadPoolExecutor | None = None
        if isinstance(embedding, Embeddings):
            own = type(embedding)
            self._texts = self._calling(
                embedding.embed_documents,
                embedding.aembed_documents
                if own.aembed_documents is not Embeddings.aembed_documents
                else None,
            )
            self._text = self._calling(
                embedding.embed_query,
                embedding.aembed_query if own.aembed_query is not Embeddings.aembed_query else None,
            )
        else:
            waits = _is_async(embedding)
            self._texts = self._calling(embedding, embedding if waits else None)
            self._text = self._only(self._texts)

    @property
    def is_hung(self) -> bool:
        """Whether a synchronous call was given up and still occupies its thread."""
        return any(not call.done() for call in self._hung)

    async def of_item(self, value: Mapping[str, Any], fields: Sequence[str] | None) -> Vectors:
        """Returns the vectors of an item, with one call for all of its texts.

        Args:
            fields: the paths to embed; None: those of the configuration. A path without a text
                gives no vector, a path with several texts one for each.

        Raises:
            Unanswered: the embedding failed, or did not return what it should.
        """
        texts: dict[str, str] = {}
        for path in self._spec.fields if fields is None else fields:
            found = get_text_at_path(value, path)
            for number, text in enumerate(found):
                texts[f"{path}.{number}" if len(found) > 1 else path] = text
        if not texts:
            return []
        vectors = await self._called(self._texts, list(texts.values()), list(texts.values()))
        return [(name, vector) for name, vector in zip(texts, vectors, strict=True) if any(vector)]

    async def of_query(self, text: str) -> list[float] | None:
        """Returns the vector of a query; None for a zero vector, which has no direction.

        Raises:
            Unanswered: as `of_item`.
        """

        async def ask(query: str) -> list[Any]:
            return [await self._text(query)]

        [vector] = await self._called(ask, text, [text])
        return vector if any(vector) else None

    async def _called(
        self, function: Callable[[Any], Awaitable[Any]], given: Any, texts: list[str]
    ) -> list[list[float]]:
        try:
            returned = await function(given)
        except Exception as error:
            said = " ".join(message_of(error).split())[:SHOWN].rstrip(".")
            raise Unanswered(
                f"The embedding {self._spec.embed} raised {name_of(error)}"
                f"{': ' + said if said else ''}."
            ) from error
        try:
            vectors = [[float(number) for number in vector] for vector in returned]
        except (TypeError, ValueError):
            raise Unanswered(
                f"The embedding {self._spec.embed} returned {_a(returned)}; it must return a list"
                " with one list of numbers for each text."
            ) from None
        if len(vectors) != len(texts):
            raise Unanswered(
                f"The embedding {self._spec.embed} returned {len(vectors)} vectors for"
                f" {len(texts)} texts; it must return one for each."
            )
        for vector in vectors:
            if len(vector) != self._spec.dims:
                raise Unanswered(
                    f"The embedding {self._spec.embed} returned a vector of {len(vector)} numbers,"
                    f" and 'store.index.dims' is {self._spec.dims}: they must be equal."
                )
            if not all(map(math.isfinite, vector)):
                raise Unanswered(
                    f"The embedding {self._spec.embed} returned a vector with NaN or an infinity."
                )
        return vectors

    def _calling(
        self, function: Callable[[Any], Any], waits: Callable[[Any], Awaitable[Any]] | None
    ) -> Callable[[Any], Awaitable[Any]]:
        if waits is not None:
            return waits

        async def in_thread(given: Any) -> Any:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, "embedding")
            call = self._threads.submit(function, given)
            try:
                return await asyncio.wrap_future(call)
            except asyncio.CancelledError:
                if not call.done():
                    self._hung.add(call)
                    call.add_done_callback(self._hung.discard)
                raise

        return in_thread

    @staticmethod
    def _only(texts: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def only(text: str) -> Any:
            found: Any = await texts([text])
            return found[0]

        return only


def load_embedder(configuration: Configuration) -> Embedder | None:
    """Imports the embedding of the configuration; None if it has none. Blocks meanwhile.

    Raises:
        ConfigurationError: it cannot be imported or made, or is none; the message says what to do.
    """
    spec = configuration.store.index
    if spec is None:
        return None
    if not is_file(spec.embed):
        return Embedder(_by_provider(spec, configuration), spec)
    found: Any = load_target(EmbeddingTarget(target=spec.embed), configuration)
    if isinstance(found, type) or not (isinstance(found, Embeddings) or callable(found)):
        raise ConfigurationError(
            f"'{EMBED}' is {spec.embed!r}, which is {_a(found)}; it must be a function of a list"
            " of texts, or a LangChain Embeddings object."
        )
    return Embedder(found, spec)


def _by_provider(spec: IndexSpec, configuration: Configuration) -> Embeddings:
    provider = spec.embed.partition(":")[0]
    package = PACKAGES.get(provider, f"langchain-{provider.replace('_', '-')}")
    try:
        from langchain.embeddings import init_embeddings  # pyright: ignore
    except ImportError:
        raise ConfigurationError(
            f"'{EMBED}' is {spec.embed!r}, for which the packages of LangChain are missing:"
            f" pip install langchain {package}."
        ) from None
    try:
        return cast(Any, init_embeddings)(spec.embed)
    except ImportError:
        raise ConfigurationError(
            f"'{EMBED}' is {spec.embed!r}, for which a package is missing: pip install {package}."
        ) from None
    except Exception as error:  # the provider's package may raise anything: a missing key, ...
        what = f"'{EMBED}' is {spec.embed!r}, and LangChain could not make it"
        raise called_failed(what, configuration.root, error) from error


def _is_async(function: Any) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _a(value: object) -> str:
    kind = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    return kind if kind.startswith("the") else f"a {kind}"

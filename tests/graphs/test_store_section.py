"""``store`` of `langgraph.json`, and the embedding that it names."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings

from greenroom.core.errors import ConfigurationError, Unanswered
from greenroom.core.store import IndexSpec, StoreSpec
from greenroom.graph_check import GraphCheck
from greenroom.graphs.configuration import Configuration, parse_configuration
from greenroom.graphs.embedding import Embedder, load_embedder

BOUND_S = 30.0
SPEC = IndexSpec(dims=2, embed="./vectors.py:embed", fields=("text", "meta.title", "tags[*]"))


def parse(store: Any, root: Path = Path("/nowhere")) -> Configuration:
    return parse_configuration({"graphs": {"a": "./a.py:g"}, "store": store}, root)


async def bounded(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, BOUND_S)


# --- the section --------------------------------------------------------------------------------


def test_a_store_has_an_index_and_times_to_live() -> None:
    found = parse(
        {
            "index": {"dims": 4, "embed": "./e.py:embed", "fields": ["text", "tags[*]"]},
            "ttl": {"default_ttl": 1.5, "sweep_interval_minutes": 1, "refresh_on_read": False},
        }
    )
    assert found.store == StoreSpec(
        index=IndexSpec(dims=4, embed="./e.py:embed", fields=("text", "tags[*]")),
        default_ttl_minutes=1.5,
        refresh_on_read=False,
        sweep_interval_minutes=1.0,
    )
    assert found.warnings == ()


@pytest.mark.parametrize("store", [None, {}, {"index": None, "ttl": None}, {"ttl": {}}])
def test_a_store_without_a_section_has_no_index_and_items_stay(store: Any) -> None:
    assert parse(store).store == StoreSpec()


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ([], "'store' must be a JSON object"),
        ({"index": []}, "'store.index' must be a JSON object"),
        ({"index": {"embed": "a:b"}}, "'store.index.dims' is None; it must be the length"),
        ({"index": {"dims": 4001, "embed": "a:b"}}, "a whole number from 1 to 4000"),
        ({"index": {"dims": True, "embed": "a:b"}}, "a whole number from 1 to 4000"),
        ({"index": {"dims": 4}}, "'store.index.embed' is None; it must be 'provider:model'"),
        ({"index": {"dims": 4, "embed": "openai"}}, "it must be 'provider:model'"),
        ({"index": {"dims": 4, "embed": "./e.py"}}, "or './file.py:function'"),
        ({"index": {"dims": 4, "embed": "./e.py:1x"}}, "or './file.py:function'"),
        ({"index": {"dims": 4, "embed": "a:b", "fields": []}}, "must be a list of paths"),
        ({"index": {"dims": 4, "embed": "a:b", "fields": [1]}}, "must be a list of paths"),
        ({"ttl": 5}, "'store.ttl' must be a JSON object"),
        ({"ttl": {"default_ttl": 0}}, "'store.ttl.default_ttl' is 0; it must be a number of min"),
        ({"ttl": {"sweep_interval_minutes": "1"}}, "it must be a number of minutes above 0"),
        ({"ttl": {"refresh_on_read": "yes"}}, "must be true or false"),
    ],
)
def test_a_wrong_section_is_refused_with_a_sentence(store: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(store)
    assert said in str(caught.value)


def test_what_has_no_effect_is_said() -> None:
    index = {"dims": 1, "embed": "a:b", "y": 1}
    found = parse({"path": "./s.py:s", "x": 1, "index": index, "ttl": {"z": 1}}).warnings
    assert len(found) == 4
    assert any("a store of your own has no effect" in sentence for sentence in found)
    for key in ("'x'", "'y'", "'z'"):
        assert sum(key in sentence for sentence in found) == 1


# --- loading ------------------------------------------------------------------------------------

VECTORS = """
from langchain_core.embeddings import Embeddings

def embed(texts): return [[float(len(text)), 1.0] for text in texts]
async def later(texts): return embed(texts)

class Own(Embeddings):
    def embed_documents(self, texts): return embed(texts)
    def embed_query(self, text): return [9.0, float(len(text))]

own = Own()
number = 5
"""


def project(folder: Path, embed: str, text: str = VECTORS) -> Configuration:
    (folder / "vectors.py").write_text(text)
    return parse({"index": {"dims": 2, "embed": embed, "fields": ["text"]}}, folder)


@pytest.fixture(autouse=True)
def imports_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.startswith("vectors")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("name", ["embed", "later", "own"])
async def test_an_embedding_is_a_function_or_an_object(tmp_path: Path, name: str) -> None:
    embedder = load_embedder(project(tmp_path, f"./vectors.py:{name}"))
    assert embedder is not None
    assert await bounded(embedder.of_item({"text": "four"}, None)) == [("text", [4.0, 1.0])]
    expected = [9.0, 3.0] if name == "own" else [3.0, 1.0]
    assert await bounded(embedder.of_query("cat")) == expected
    sys.modules.pop("vectors", None)


@pytest.mark.parametrize(
    ("embed", "text", "said"),
    [
        ("./none.py:embed", VECTORS, "there is no file"),
        ("./vectors.py:nope", VECTORS, "has no attribute 'nope'"),
        ("./vectors.py:number", VECTORS, "which is a int; it must be a function"),
        ("./vectors.py:Own", VECTORS, "which is the class Own; it must be a function"),
        ("./vectors.py:embed", "import no_such_thing", "Install 'no-such-thing'"),
        ("./vectors.py:embed", "1/0", "ZeroDivisionError"),
    ],
)
def test_an_embedding_that_cannot_be_loaded_says_why(
    tmp_path: Path, embed: str, text: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_embedder(project(tmp_path, embed, text))
    assert said in str(caught.value)
    sys.modules.pop("vectors", None)


def test_a_model_of_a_provider_needs_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langchain", None)
    monkeypatch.setitem(sys.modules, "langchain.embeddings", None)
    with pytest.raises(ConfigurationError, match="pip install langchain langchain-openai"):
        load_embedder(project(tmp_path, "openai:text-embedding-3-small"))


def given_langchain(monkeypatch: pytest.MonkeyPatch, init: Any) -> None:
    module = ModuleType("langchain.embeddings")
    module.init_embeddings = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langchain", ModuleType("langchain"))
    monkeypatch.setitem(sys.modules, "langchain.embeddings", module)


async def test_a_model_of_a_provider_is_made_by_langchain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(Embeddings):
        def __init__(self, model: str) -> None:
            self.model = model

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 2.0] for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return [float(self.model == "azure_openai:small"), 0.0]

    given_langchain(monkeypatch, Model)
    embedder = load_embedder(project(tmp_path, "azure_openai:small"))
    assert embedder is not None
    assert await bounded(embedder.of_query("x")) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("Could not import"), "a package is missing: pip install langchain-openai"),
        (ValueError("Set OPENAI_API_KEY in the environment"), "Set the variable 'OPENAI_API_KEY'"),
    ],
)
def test_a_provider_that_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def refuse(model: str) -> None:
        raise error

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    given_langchain(monkeypatch, refuse)
    with pytest.raises(ConfigurationError) as caught:
        load_embedder(project(tmp_path, "azure_openai:small"))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import os; os._exit(3)", "'store.index.embed' ended the interpreter"),
    ],
)
def test_a_server_does_not_start_without_its_embedding(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "vectors.py").write_text(text)
    (tmp_path / "a.py").write_text(
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "g = StateGraph(MessagesState).add_node('n', lambda s: {}).add_edge(START, 'n').compile()"
    )
    section = {"index": {"dims": 2, "embed": "./vectors.py:embed"}}
    content = {"graphs": {"a": "./a.py:g"}, "store": section}
    (tmp_path / "langgraph.json").write_text(json.dumps(content))
    with GraphCheck(tmp_path, tolerant=True) as check:
        with pytest.raises(ConfigurationError) as caught:
            check.problems()
    assert said in str(caught.value)


# --- calling ------------------------------------------------------------------------------------


async def test_all_texts_of_an_item_are_one_call() -> None:
    calls: list[list[str]] = []

    def embed(texts: list[str]) -> list[list[float]]:
        calls.append(texts)
        return [[float(number), 1.0] for number in range(len(texts))]

    embedder = Embedder(embed, SPEC)
    value = {"text": 5, "meta": {"title": ["cat"]}, "tags": ["a", "b"], "x": 1}
    vectors = await bounded(embedder.of_item(value, None))
    assert calls == [["5", '["cat"]', "a", "b"]]
    assert [name for name, _ in vectors] == ["text", "meta.title", "tags[*].0", "tags[*].1"]
    assert await bounded(embedder.of_item(value, ["x", "x"])) == [("x", [0.0, 1.0])]
    assert await bounded(embedder.of_item({"other": 1}, None)) == []
    assert await bounded(embedder.of_item(value, [])) == []
    assert len(calls) == 2


async def test_a_zero_vector_has_no_direction() -> None:
    embedder = Embedder(lambda texts: [[0.0, 0.0] for _ in texts], SPEC)
    assert await bounded(embedder.of_query("x")) is None
    assert await bounded(embedder.of_item({"text": "x"}, None)) == []


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], "returned 2 vectors for 1 texts"),
        ([[1.0]], "a vector of 1 numbers, and 'store.index.dims' is 2"),
        ([[float("nan"), 1.0]], "NaN or an infinity"),
        (5, "returned a int; it must return a list"),
        ([["a", "b"]], "returned a list; it must return a list with one list of numbers"),
    ],
)
async def test_what_an_embedding_returns_is_checked(returned: Any, said: str) -> None:
    embedder = Embedder(lambda texts: returned, SPEC)
    with pytest.raises(Unanswered) as caught:
        await bounded(embedder.of_item({"text": "x"}, None))
    assert said in str(caught.value)
    assert "./vectors.py:embed" in str(caught.value)


async def test_what_an_embedding_raises_is_told_in_a_sentence() -> None:
    async def embed(texts: list[str]) -> Any:
        raise RuntimeError("the model\nis away.")

    embedder = Embedder(embed, SPEC)
    with pytest.raises(Unanswered, match=r"raised RuntimeError: the model is away\.$"):
        await bounded(embedder.of_query("x"))


async def test_a_call_that_was_given_up_and_goes_on_is_noticed() -> None:
    entered, leave = threading.Event(), threading.Event()

    def embed(texts: list[str]) -> list[list[float]]:
        entered.set()
        leave.wait(BOUND_S)
        return [[1.0, 1.0] for _ in texts]

    embedder = Embedder(embed, SPEC)
    call = asyncio.ensure_future(embedder.of_query("x"))
    await asyncio.to_thread(entered.wait, BOUND_S)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert embedder.is_hung
    leave.set()
    async with asyncio.timeout(BOUND_S):
        while embedder.is_hung:  # noqa: ASYNC110 - the thread ends by itself
            await asyncio.sleep(0.01)

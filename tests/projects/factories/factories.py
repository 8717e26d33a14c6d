import contextlib
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    said: str


@dataclass
class Context:
    word: str = "nothing"


def saying(word):
    def say(state: State) -> State:
        return {"said": word}

    return StateGraph(State, context_schema=Context).add_node(say).add_edge(START, "say")


def none():
    return saying("none").compile()


def config(config):
    return saying(config["configurable"].get("word"))


def typed(anything: RunnableConfig):
    return saying(anything["configurable"].get("word"))


def runtime(runtime: ServerRuntime[Context]):
    run = runtime.execution_runtime
    return saying(run.context.word if run else "no run")


def both(config: RunnableConfig, runtime: ServerRuntime):
    return saying(config["configurable"].get("word"))


async def awaited(config):
    return saying(config["configurable"].get("word")).compile()


@contextlib.contextmanager
def managed(config):
    yield saying(config["configurable"].get("word"))


@contextlib.asynccontextmanager
async def awaited_managed(config):
    yield saying(config["configurable"].get("word"))


async def bare(config):
    yield saying(config["configurable"].get("word"))

from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from pydantic import BaseModel

from memory_agent import state


class State(BaseModel):
    fact: str
    known: list[str] = []


async def remember(given: State, *, store: BaseStore):
    await store.aput(state.NAMESPACE, given.fact, {"fact": given.fact})
    return {"known": [item.key for item in await store.asearch(state.NAMESPACE)]}


builder = StateGraph(State).add_node(remember).add_edge(START, "remember")

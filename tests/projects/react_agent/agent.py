"""An agent with tools and middleware, by hand: what `create_agent` compiles to."""

from typing import Annotated, NotRequired

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from typing_extensions import TypedDict


class Scripted(BaseChatModel):
    @property
    def _llm_type(self):
        return "scripted"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        last = messages[-1]
        if last.type == "human":
            call = {"name": "weather", "args": {"city": last.content}, "id": "call-1"}
            message = AIMessage("", tool_calls=[call])
        else:
            message = AIMessage(f"It is {last.content}")
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    calls: NotRequired[Annotated[int, lambda old, new: old + new]]
    jump_to: NotRequired[str]


model = Scripted()


async def model_node(state: State):
    return {"messages": [await model.ainvoke(state["messages"])]}


def counting_before_model(state: State):
    return {"calls": 1}


agent = (
    StateGraph(State)
    .add_node("counting.before_model", counting_before_model)
    .add_node("model", model_node)
    .add_node("tools", ToolNode([weather]))
    .add_edge(START, "counting.before_model")
    .add_edge("counting.before_model", "model")
    .add_conditional_edges("model", tools_condition, ["tools", END])
    .add_edge("tools", "counting.before_model")
    .compile()
)

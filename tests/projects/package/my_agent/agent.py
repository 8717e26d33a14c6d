from typing import Literal

from langgraph.graph import END, StateGraph
from my_agent.utils.nodes import call_model, should_continue
from my_agent.utils.state import AgentState
from typing_extensions import TypedDict


class GraphConfig(TypedDict):
    model_name: Literal["anthropic", "openai"]


workflow = StateGraph(AgentState, context_schema=GraphConfig)
workflow.add_node("agent", call_model)
workflow.set_entry_point("agent")
workflow.add_conditional_edges("agent", should_continue, {"end": END})
graph = workflow.compile()

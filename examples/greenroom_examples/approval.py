"""A human decides: the run stops at a question, and another run brings the answer.

Input: ``{"customer": "Ada", "amount": 250}``. The run ends, its thread is `interrupted` and shows
the question. Go on with a run of ``{"command": {"resume": {"approved": true}}}`` on the thread:
in a second or in a month, the server may have been restarted in between.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict


class State(TypedDict):
    customer: str
    amount: int
    answer: NotRequired[str]


def ask(state: State) -> Command[Literal["pay", "decline"]]:
    # The first time this raises; when the answer is there, the node runs again from its first line
    # and gets it. So nothing with an effect may stand above.
    decision = interrupt(
        {
            "question": f"Refund {state['amount']} to {state['customer']}?",
            "answer_with": {"approved": "true or false"},
        }
    )
    approved = decision.get("approved") if isinstance(decision, dict) else decision
    return Command(goto="pay" if approved is True else "decline")


def pay(state: State) -> dict[str, str]:
    return {"answer": f"Refunded {state['amount']} to {state['customer']}."}


def decline(state: State) -> dict[str, str]:
    return {"answer": f"No refund for {state['customer']}."}


graph = (
    StateGraph(State)
    .add_node(ask)
    .add_node(pay)
    .add_node(decline)
    .add_edge(START, "ask")
    .add_edge("pay", END)
    .add_edge("decline", END)
    .compile()
)

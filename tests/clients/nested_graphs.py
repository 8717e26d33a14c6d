"""A graph that asks a person from inside its subgraph."""

from __future__ import annotations

from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict


class TripState(TypedDict, total=False):
    place: str
    approved: Any


async def plan(state: TripState) -> TripState:
    return {"place": state.get("place", "Rome")}


async def approve(state: TripState) -> TripState:
    return {"approved": interrupt({"book": state["place"]})}


_booking = StateGraph(TripState)
_booking.add_node("approve", approve)
_booking.add_edge(START, "approve")

_trip = StateGraph(TripState)
_trip.add_node("plan", plan)
_trip.add_node("booking", _booking.compile())
_trip.add_edge(START, "plan")
_trip.add_edge("plan", "booking")
trip = _trip.compile()

"""A graph whose own node computes on a share of a GPU: `gpu.json` gives its actors `num_gpus`.

Input: ``{"query": "warm bread", "documents": ["fresh bread", "cold steel"]}``
"""

from __future__ import annotations

import os
from functools import cache
from typing import NotRequired

import torch
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from gpu_pipeline.network import device_of_this_process

BUCKETS = 4096
WIDTH = 2048


class State(TypedDict):
    query: str
    documents: list[str]
    repeat: NotRequired[int]
    best: NotRequired[str]
    device: NotRequired[str]
    visible: NotRequired[str | None]


@cache
def weights() -> torch.Tensor:
    """Made once for each process: actors are kept, and the next run finds them there."""
    made = torch.Generator().manual_seed(0)
    return torch.randn(BUCKETS, WIDTH, generator=made).to(device_of_this_process())


def embed(texts: list[str]) -> torch.Tensor:
    """Texts that share letters in threes point in similar directions."""
    counts = torch.zeros(len(texts), BUCKETS)
    for row, text in enumerate(texts):
        padded = f"  {text.lower()} "
        for at in range(len(padded) - 2):
            # Not `hash`, which differs between processes.
            counts[row, int.from_bytes(padded[at : at + 3].encode()[:4], "big") % BUCKETS] += 1
    return torch.nn.functional.normalize(counts.to(weights().device) @ weights(), dim=1)


@torch.inference_mode()
def rank(state: State) -> State:
    for _ in range(state.get("repeat", 1)):
        vectors = embed([state["query"], *state["documents"]])
        best = int((vectors[1:] @ vectors[0]).argmax())
    return {
        **state,
        "best": state["documents"][best],
        "device": str(vectors.device),
        # What Ray gave to this process; two actors with a half each see the same GPU.
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


graph = StateGraph(State).add_node(rank).add_edge(START, "rank").compile()

"""Which actors no node can ever hold, and what is said about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.common.placement import (
    ClusterView,
    Node,
    PoolSpec,
    Refused,
    adds_nodes,
    impossible,
    request_of,
)

MIB = 1024 * 1024
SMALL = Node(resources={"CPU": 2, "memory": 1024 * MIB})
GPU = Node(
    resources={"CPU": 8, "GPU": 2, "memory": 4096 * MIB, "accelerator_type:L4": 1},
    labels={"pool": "gpu", "zone": "b"},
)


def spec(**needs: Any) -> PoolSpec:
    return PoolSpec(graphs=("g", "h"), **{"num_cpus": 0.5, **needs})


def view(*nodes: Node, **more: Any) -> ClusterView:
    return ClusterView(nodes=nodes, **more)


@pytest.mark.parametrize(
    "needs",
    [
        {},
        {"num_cpus": 0},
        {"num_gpus": 0.25},
        {"num_gpus": 2, "num_cpus": 8},
        {"memory_mib": 4096},
        {"accelerator_type": "L4", "num_gpus": 1},
        {"labels": (("pool", "gpu"),)},
        {"labels": (("pool", "!cpu"), ("zone", "in(a, b)"))},
        {"labels": (("nowhere", "!in(a, b)"),)},
    ],
)
def test_what_one_node_has_in_total_can_be_placed_however_busy_it_is(needs: Any) -> None:
    assert impossible(spec(**needs), view(SMALL, GPU)) is None


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (
            {"num_gpus": 3},
            "needs 0.5 CPU, 3 GPU; the most that a node has is 2 GPU, and no autoscaler",
        ),
        ({"num_cpus": 64}, "needs 64 CPU; the most that a node has is 8 CPU"),
        ({"resources": (("tpu", 1.0),)}, "the most that a node has is 0 tpu"),
        ({"memory_mib": 9000}, "9000 MiB of memory; the most that a node has is 4096 MiB"),
        ({"accelerator_type": "H100"}, "an accelerator H100; the most that a node has is no"),
        ({"labels": (("pool", "tpu"),)}, "the label pool=tpu; no node has all of that"),
        ({"labels": (("zone", "!in(a,b)"), ("pool", "gpu"))}, "no node has all of that"),
    ],
)
def test_what_no_node_has_is_said_with_the_most_that_one_has(needs: Any, said: str) -> None:
    sentence = impossible(spec(**needs), view(SMALL, GPU))
    assert sentence is not None
    assert sentence.startswith("No node can hold an actor of 'g', 'h': it needs ")
    assert said in sentence


def test_what_several_nodes_have_only_together_cannot_be_placed() -> None:
    many = Node(resources={"CPU": 64})
    sentence = impossible(spec(num_cpus=32, num_gpus=1), view(many, GPU))
    assert sentence is not None
    assert "no node has all of that" in sentence


def test_a_cluster_without_a_node_can_place_nothing() -> None:
    assert "there is no node" in str(impossible(spec(), view()))


def test_an_autoscaler_may_add_a_node_unless_it_has_refused_just_that_request() -> None:
    asked = spec(num_gpus=1, resources=(("tpu", 1.0),))
    assert impossible(asked, view(SMALL, autoscales=True)) is None
    other = Refused(resources={"CPU": 0.5, "GPU": 2.0, "tpu": 1.0})
    assert impossible(asked, view(SMALL, autoscales=True, refused=(other,))) is None
    same = Refused(resources={"CPU": 0.5, "GPU": 1.0, "tpu": 1.0})
    sentence = impossible(asked, view(SMALL, autoscales=True, refused=(other, same)))
    assert "the most that a node has is 0 GPU, 0 tpu, and no autoscaler can add one" in str(
        sentence
    )


def test_a_refused_request_with_labels_says_nothing_about_the_same_without() -> None:
    refused = Refused(resources={"CPU": 0.5, "GPU": 1.0}, labelled=True)
    cluster = view(SMALL, autoscales=True, refused=(refused,))
    assert impossible(spec(num_gpus=1), cluster) is None
    assert impossible(spec(num_gpus=1, labels=(("zone", "c"),)), cluster) is not None


def test_nothing_is_asked_for_what_a_placement_does_not_name() -> None:
    assert request_of(PoolSpec(graphs=("g",), num_cpus=0)) == {}
    assert request_of(spec(memory_mib=2, accelerator_type="L4")) == {
        "CPU": 0.5,
        "memory": 2 * MIB,
        "accelerator_type:L4": 0.001,
    }


@pytest.mark.parametrize(
    ("report", "adds"),
    [
        ({}, False),
        ({"autoscaler_report": None}, False),
        ({"autoscaler_report": {"active_nodes": {"node_6a43da372fe4": 1}}}, False),
        ({"autoscaler_report": {"active_nodes": {"ray.head.default": 1}}}, True),
        ({"autoscaler_report": {"active_nodes": {}, "pending_launches": {"gpu": 2}}}, True),
    ],
)
def test_a_monitor_that_only_looks_is_told_from_an_autoscaler(report: Any, adds: bool) -> None:
    assert adds_nodes(json.dumps(report).encode()) is adds

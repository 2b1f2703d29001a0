"""Layers do not overlap, edges go down, chains are straight, and blocks do not drift."""

from __future__ import annotations

import time
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from mz.report.layout import NODE_HEIGHT, NODE_WIDTH, layout


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Any acyclic graph of up to 30 layers, in topological order."""
    inputs: dict[str, list[str]] = {}
    for index in range(draw(st.integers(1, 30))):
        reads = draw(st.lists(st.integers(0, index - 1), max_size=3)) if index else []
        inputs[f"n{index}"] = [f"n{place}" for place in reads]
    return inputs


@given(graphs())
def test_nodes_apart_and_edges_downwards(inputs: dict[str, list[str]]) -> None:
    found = layout(inputs)
    assert list(found.nodes) == list(inputs)
    for (x, y), (other_x, other_y) in combinations(found.nodes.values(), 2):
        assert abs(x - other_x) >= NODE_WIDTH or abs(y - other_y) >= NODE_HEIGHT
    for x, y in found.nodes.values():
        assert NODE_WIDTH / 2 - 0.11 <= x <= found.width - NODE_WIDTH / 2 + 0.11
        assert NODE_HEIGHT / 2 <= y <= found.height - NODE_HEIGHT / 2
    wanted = {(producer, name) for name, producers in inputs.items() for producer in producers}
    assert {(a, b) for a, b, _ in found.edges} == wanted
    for producer, name, points in found.edges:
        assert points[0] == (found.nodes[producer][0], found.nodes[producer][1] + NODE_HEIGHT / 2)
        assert points[-1] == (found.nodes[name][0], found.nodes[name][1] - NODE_HEIGHT / 2)
        heights = [y for _, y in points]
        assert heights == sorted(heights)


def test_a_chain_with_shortcuts_is_straight() -> None:
    inputs = {"n0": []} | {
        f"n{i}": [f"n{i - 1}"] + ([f"n{i - 3}"] if i % 3 == 0 else []) for i in range(1, 61)
    }
    assert len({x for x, _ in layout(inputs).nodes.values()}) == 1


def test_blocks_of_two_branches_do_not_drift() -> None:
    """Split in two, one branch worked on, joined again: as in ShuffleNet, forty times."""
    inputs: dict[str, list[str]] = {"join0": []}
    for block in range(1, 41):
        before = f"join{block - 1}"
        inputs |= {f"a{block}": [before], f"b{block}": [before], f"conv{block}": [f"b{block}"]}
        inputs[f"join{block}"] = [f"a{block}", f"conv{block}"]
    found = layout(inputs)
    assert found.width < 3.5 * NODE_WIDTH
    assert len({found.nodes[f"join{block}"][0] for block in range(41)}) == 1


def test_thousands_of_layers_are_quick() -> None:
    inputs = {"n0": []} | {
        f"n{i}": [f"n{i - 1}"] + ([f"n{i - 4}"] if i % 4 == 0 else []) for i in range(1, 3000)
    }
    began = time.process_time()
    layout(inputs)
    assert time.process_time() - began < 5


def test_no_layers_at_all() -> None:
    found = layout({})
    assert (found.nodes, found.edges, found.width, found.height) == ({}, (), 0.0, 0.0)

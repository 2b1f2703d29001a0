"""Questions that passes ask of a graph."""

from __future__ import annotations

import dataclasses

import pytest

from mz.graph import Add, Conv, Graph, Input, Mul

SHAPE = (4, 6, 6)


def conv(name: str, source: str, **fields) -> Conv:
    return Conv(name=name, inputs=(source,), shape=SHAPE, kernel_shape=(1, 1), **fields)


def branches(last: Conv, reader=None, outputs=("end",)) -> Graph:
    """x -> first, x -> last, and a sum of the two."""
    x = Input(name="x", inputs=(), shape=SHAPE)
    reader = reader or Add(name="end", inputs=("first", "last"), shape=SHAPE)
    return Graph("branches", (x, conv("first", "x"), last, reader), outputs)


def test_the_last_of_two_summands_knows_the_other():
    graph = branches(conv("last", "x"))
    assert graph.summand(graph["last"]) == "first"
    assert graph.summand(graph["first"]) is None  # the other comes later


def test_a_clip_of_the_sum_does_not_matter():
    graph = branches(
        conv("last", "x"), Add(name="end", inputs=("last", "first"), shape=SHAPE, clip=(0.0, 6.0))
    )
    assert graph.summand(graph["last"]) == "first"


@pytest.mark.parametrize(
    "graph",
    [
        branches(conv("last", "x", clip=(0.0, 6.0))),
        branches(conv("last", "x", clip_by_channel=True)),
        branches(conv("last", "x"), outputs=("end", "last")),
        branches(conv("last", "x"), Mul(name="end", inputs=("first", "last"), shape=SHAPE)),
        branches(conv("last", "x"), Add(name="end", inputs=("last", "last"), shape=SHAPE)),
        branches(conv("last", "x"), Add(name="end", inputs=("first", "last"), shape=SHAPE, host=True)),
        branches(dataclasses.replace(conv("last", "x", strides=(6, 6)), shape=(4, 1, 1))),
        branches(conv("last", "first"), Add(name="end", inputs=("last", "x"), shape=SHAPE, host=True)),
    ],
    ids=["clip", "clip by channel", "output", "product", "twice", "host", "broadcast", "chain on the host"],
)
def test_no_summand_where_the_sum_is_not_the_layers_own(graph):
    assert graph.summand(graph["last"]) is None

"""Which tensors of a softmax have 16 bits."""

from __future__ import annotations

import pytest

from mz.graph import Activation, Conv, Graph, Input, Layer, MatMul, MaxPool, Mul, Reshape, Slice, Sub
from mz.quantize import softmax_scales

SHAPE, ROW = (2, 5, 5), (2, 5, 1)


def layer(cls, name: str, shape: tuple[int, ...], *inputs: str, **fields) -> Layer:
    return cls(name=name, inputs=inputs, shape=shape, **fields)


def network(scores: tuple[Layer, ...], largest: tuple[Layer, ...], last: tuple[str, str]) -> Graph:
    """Scores `s`, their maxima `m`, weights, and a product that is divided."""
    layers = (
        layer(Input, "x", SHAPE),
        *scores,
        *largest,
        layer(Sub, "d", SHAPE, "s", "m"),
        layer(Activation, "e", SHAPE, "d", function="exp"),
        layer(MaxPool, "t", ROW, "e", kernel_shape=(1, 5)),
        layer(Activation, "r", ROW, "t", function="power", constants=(-1.0, 0.0)),
        layer(MatMul, "p", SHAPE, "e", "x"),
        layer(Mul, "y", SHAPE, *last),
    )
    return Graph("softmax", layers, ("y",))


PLAIN = (layer(MatMul, "s", SHAPE, "x", "x"),)
WINDOW = {"kernel_shape": (1, 5)}


@pytest.mark.parametrize("last", [("p", "r"), ("r", "p")])
def test_scores_and_the_product_that_is_divided(last) -> None:
    graph = network(PLAIN, (layer(MaxPool, "m", ROW, "s", **WINDOW),), last)
    assert set(softmax_scales(graph)) == {"s", "p"}


def test_moves_and_a_bias_of_places_before_the_scores() -> None:
    scores = (
        layer(MatMul, "q", SHAPE, "x", "x"),
        layer(Reshape, "q1", (50, 1, 1), "q"),
        layer(Conv, "b", (50, 1, 1), "q1", kernel_shape=(1, 1), groups=50),
        layer(Reshape, "s", SHAPE, "b"),
    )
    largest = (
        layer(Reshape, "m0", (10, 5, 1), "s"),
        layer(MaxPool, "m1", (10, 1, 1), "m0", kernel_shape=(5, 1)),
        layer(Reshape, "m", ROW, "m1"),
    )
    assert set(softmax_scales(network(scores, largest, ("p", "r")))) == {"s", "b", "q1", "q", "p"}


def test_other_differences_are_left_alone() -> None:
    """exp(x - y) of another tensor's maximum, and a product of which nothing is divided."""
    graph = network(PLAIN, (layer(MaxPool, "m", ROW, "x", **WINDOW),), ("p", "e"))
    assert softmax_scales(graph) == []


def test_a_column_that_divides_is_in_both_products() -> None:
    layers = (
        layer(Input, "x", SHAPE),
        layer(MatMul, "kv", SHAPE, "x", "x"),
        layer(MatMul, "qkv", SHAPE, "x", "kv"),
        layer(Slice, "n", (2, 5, 4), "qkv", starts=(0, 0, 0), stops=(2, 5, 4), steps=(1, 1, 1)),
        layer(Slice, "d", ROW, "qkv", starts=(0, 0, 4), stops=(2, 5, 5), steps=(1, 1, 1)),
        layer(Activation, "r", ROW, "d", function="power", constants=(-1.0, 1e-5)),
        layer(Mul, "y", (2, 5, 4), "n", "r"),
    )
    assert set(softmax_scales(Graph("linear", layers, ("y",)))) == {"qkv", "kv"}

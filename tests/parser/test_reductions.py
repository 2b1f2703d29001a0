"""Means, sums and norms over any axes of an image, as layers that integers do."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parser.networks import kinds, network, op, prove, weights

X = ["N", 4, 6, 7]
OPERATORS = ["ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2"]


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def on_accelerator(result) -> list[str]:
    assert not any(layer.host for layer in result.graph.layers)
    return kinds(result)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_axes_of_any_shape(data: st.DataObject) -> None:
    """In every form of the operator: axes as an attribute or an input, kept or dropped."""
    sizes = data.draw(st.lists(st.integers(2, 5), min_size=2, max_size=4))
    axes = data.draw(st.sets(st.integers(1, len(sizes)), min_size=1, max_size=len(sizes) - 1))
    operator, opset = data.draw(st.sampled_from(OPERATORS)), data.draw(st.sampled_from([11, 13, 18]))
    keepdims = data.draw(st.integers(0, 1))
    as_input = opset == 18 or (opset == 13 and operator == "ReduceSum")
    given_as = {} if as_input else {"axes": sorted(axes)}
    node = op(operator, "s a" if as_input else "s", keepdims=keepdims, **given_as)
    nodes = [op("Reshape", "x to", "r"), op("Sigmoid", "r", "s"), node]
    flat = int(np.prod(sizes))
    model = network(nodes, {"x": [1, flat]}, {"to": ints(1, *sizes), "a": ints(*axes)}, opset=opset)
    with tempfile.TemporaryDirectory() as folder:
        on_accelerator(prove(model, Path(folder)))


@pytest.mark.parametrize(
    ("operator", "axes", "expected"),
    [
        ("ReduceMean", [1], ["conv"]),
        ("ReduceMean", [2, 3], ["global_avgpool"]),
        ("ReduceMean", [-1], ["avgpool"]),
        ("ReduceMean", [1, 2], ["reshape", "conv", "reshape"]),
        ("ReduceMean", [1, 2, 3], ["reshape", "global_avgpool"]),
        ("ReduceMean", [1, 3], ["transpose", "global_avgpool", "reshape"]),
        ("ReduceSum", [1], ["conv"]),
        ("ReduceSum", [2, 3], ["global_avgpool", "conv"]),
        ("ReduceSumSquare", [1], ["mul", "conv"]),
        ("ReduceL2", [1], ["mul", "conv", "activation"]),
        ("ReduceL2", [2, 3], ["mul", "global_avgpool", "activation"]),
    ],
)
def test_what_each_becomes(proven, operator, axes, expected) -> None:
    assert on_accelerator(proven(op(operator, "x", axes=axes), X, opset=12)) == expected


def test_the_number_of_values_of_a_norm_goes_into_the_root(proven) -> None:
    graph = proven(op("ReduceL2", "x", axes=[2, 3]), X).graph
    assert graph["activation1"].constants == (0.5, 0.0, 42.0)


def test_a_sum_is_scaled_in_the_weights_behind_it(proven) -> None:
    nodes = [op("ReduceSum", "x a", "s"), op("Conv", "s w")]
    result = proven(nodes, X, {"a": ints(2, 3), "w": weights(3, 4, 1, 1)})
    assert on_accelerator(result) == ["global_avgpool", "conv"]


def test_the_mean_of_a_map_whose_channels_are_last_is_a_convolution(proven) -> None:
    """Exporters put transposes around what works on the last axis; none is left."""
    nodes = [
        *(op("Transpose", "x", "t", perm=[0, 2, 3, 1]), op("ReduceMean", "t", "m", axes=[-1])),
        *(op("Sub", "t m", "d"), op("Add", "d s", "e"), op("Relu", "e", "r")),
        *(op("Transpose", "r", "u", perm=[0, 3, 1, 2]), op("Conv", "u w")),
    ]
    constants = {"s": weights(4), "w": weights(3, 4, 1, 1)}
    assert on_accelerator(proven(nodes, X, constants)) == ["conv", "sub", "conv", "conv"]


def test_the_mean_of_what_a_dense_layer_over_channels_gives(proven) -> None:
    nodes = [op("MatMul", "x w", "d"), op("ReduceMean", "d", axes=[3])]
    result = proven(nodes, X, {"w": weights(7, 5)})
    assert on_accelerator(result) == ["dense", "avgpool"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_axes_are_all_or_none(proven, operator) -> None:
    """All of them hold the batch, which is the host's; none leaves the tensor as it is."""
    assert kinds(proven(op(operator, "x"), [1, *X[1:]], opset=12))[-1] == "host_op"
    if operator in ("ReduceMean", "ReduceSum"):
        nodes = [op(operator, "x", "m", noop_with_empty_axes=1), op("Relu", "m")]
        assert on_accelerator(proven(nodes, X, opset=18)) == ["activation"]


def test_behind_the_host_the_operator_stays_as_it_is(proven) -> None:
    for operator in OPERATORS:
        nodes = [op("Softmax", "x", "h", axis=3), op(operator, "h", axes=[1])]
        assert kinds(proven(nodes, X, opset=12, at_least_db=100)) == ["softmax", "host_op"]

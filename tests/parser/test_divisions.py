"""Divisions by a tensor: products with one power of what the divisor is made of, where its sign is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parser.networks import kinds, network, op, prove, weights
from tests.parser.test_normalization import OVER_CHANNELS, OVER_MAP, without_moves

from mz.graph import functions
from mz.parser.powers import Power

X = ["N", 6, 4, 5]
EPSILON = np.float32(0.01)
NUMBERS = {"e": EPSILON, "half": 0.5, "minus": -0.5, "two": 2.0, "one": 1.0, "f": 0.25}


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def powers(result) -> list[tuple[float, ...]]:
    """The constants of all activations, each of which must be a `power` in integers."""
    found = [layer for layer in result.graph.layers if layer.kind == "activation"]
    assert not any(layer.host for layer in result.graph.layers)
    assert all(layer.function == "power" for layer in found)
    return [layer.constants for layer in found]


DIVISIONS = {
    "root": ([op("Sqrt", "p", "r"), op("Div", "x r")], (-0.5, EPSILON)),
    "power": ([op("Pow", "p half", "r"), op("Div", "x r")], (-0.5, EPSILON)),
    "negative power": ([op("Pow", "p minus", "r"), op("Mul", "x r")], (-0.5, EPSILON)),
    "reciprocal": ([op("Sqrt", "p", "r"), op("Reciprocal", "r", "i"), op("Mul", "i x")], (-0.5, EPSILON)),
    "one by": ([op("Sqrt", "p", "r"), op("Div", "one r", "i"), op("Mul", "i x")], (-0.5, EPSILON)),
    "root of a root": ([op("Sqrt", "p", "q"), op("Sqrt", "q", "r"), op("Div", "x r")], (-0.25, EPSILON)),
    "no root": ([op("Div", "x p")], (-1.0, EPSILON)),
    "scaled": ([op("Mul", "p f", "q"), op("Sqrt", "q", "r"), op("Div", "x r")], (-0.5, 0.25 * EPSILON, 0.25)),
    "a scaled root": (
        [op("Sqrt", "p", "r"), op("Mul", "r two", "q"), op("Div", "x q")],
        (-0.5, 4 * EPSILON, 4.0),
    ),
}


@pytest.mark.parametrize("form", DIVISIONS)
@pytest.mark.parametrize("raised", [True, False])
def test_a_division_by_a_tensor_is_one_power_and_a_product(proven, form, raised) -> None:
    """With an epsilon and without, whatever it is written as."""
    nodes, expected = DIVISIONS[form]
    before = [op("Mul", "x x", "s"), op("ReduceMean", "s", "v", axes=[1])]
    before.append(op("Add", "v e", "p") if raised else op("Identity", "v", "p"))
    result = proven([*before, *nodes], X, NUMBERS)
    (found,) = powers(result)
    exponent, offset, *factor = expected
    assert found == pytest.approx((exponent, offset if raised else 0.0, *factor), rel=1e-6)
    assert kinds(result) == ["mul", "conv", "activation", "mul"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 0.25, 1.5, -0.5, -1.0, 2.0]), min_size=2, max_size=3),
    st.floats(0.1, 4.0),
    st.just(0.0) | st.floats(1e-6, 1.0),
)
def test_powers_of_powers_are_the_same_function(exponents, factor, offset) -> None:
    """Also below zero, where a root counts as zero; a pair that could not be is left alone."""
    x = np.linspace(-2.0, 3.0, 101)
    value, joined = x, None
    for place, exponent in enumerate(exponents):
        power = Power(exponent) if place else Power(exponent).of_affine(factor, offset)
        joined = power if joined is None else power.of_power(joined)
        value = functions.apply("power", value if place else factor * x + offset, (exponent,))
        if joined is None:
            return
    np.testing.assert_allclose(functions.apply("power", x, joined.constants), value, rtol=1e-9)


def test_a_root_that_is_read_elsewhere_stays(proven) -> None:
    nodes = [op("Softplus", "x", "s"), op("Sqrt", "s", "r"), op("Div", "x r", "d"), op("Add", "d r")]
    graph = proven(nodes, X).graph
    found = [layer.function for layer in graph.layers if layer.kind == "activation"]
    assert found == ["softplus", "sqrt", "power"]


def test_what_two_divide_by_is_left_to_neither(proven) -> None:
    nodes = [
        *(op("Mul", "x x", "s"), op("Add", "s e", "v"), op("Sqrt", "v", "r")),
        *(op("Div", "x r", "a"), op("Div", "s r", "b"), op("Add", "a b")),
    ]
    assert powers(proven(nodes, X, NUMBERS)) == [pytest.approx((-0.5, EPSILON))] * 2


def test_layer_normalization_written_out(proven) -> None:
    """Below opset 17 exporters write it so, channels last; its constants go into the convolution."""
    nodes = [
        *(op("Transpose", "x", "t", perm=[0, 2, 3, 1]), op("ReduceMean", "t", "m", axes=[-1])),
        *(op("Sub", "t m", "d"), op("Pow", "d two", "q"), op("ReduceMean", "q", "v", axes=[-1])),
        *(op("Add", "v e", "p"), op("Sqrt", "p", "r"), op("Div", "d r", "n"), op("Mul", "n s", "g")),
        *(op("Add", "g b", "h"), op("Transpose", "h", "u", perm=[0, 3, 1, 2]), op("Conv", "u w")),
    ]
    constants = NUMBERS | {"s": weights(6), "b": weights(6, seed=1), "w": weights(4, 6, 1, 1)}
    result = proven(nodes, X, constants, opset=13)
    assert kinds(result) == [*OVER_CHANNELS, "conv"] and powers(result) == [pytest.approx((-0.5, EPSILON))]


def test_layer_normalization_over_channels_written_by_hand(proven) -> None:
    """As NAFNet, SAM and ConvNeXt's LayerNorm2d have it: all over axis 1."""
    nodes = [
        *(op("ReduceMean", "x", "m", axes=[1]), op("Sub", "x m", "d"), op("Pow", "d two", "q")),
        *(op("ReduceMean", "q", "v", axes=[1]), op("Add", "v e", "p"), op("Sqrt", "p", "r")),
        *(op("Div", "d r", "n"), op("Mul", "s n", "g"), op("Add", "g b", "h"), op("Conv", "h w")),
    ]
    constants = {"s": weights(6, 1, 1), "b": weights(6, 1, 1, seed=1), "w": weights(4, 6, 1, 1)}
    assert kinds(proven(nodes, X, NUMBERS | constants, opset=13)) == [*OVER_CHANNELS, "conv"]


def test_layer_normalization_of_tokens_written_out(proven) -> None:
    nodes = [
        *(op("ReduceMean", "x", "m", axes=[-1]), op("Sub", "x m", "d"), op("Pow", "d two", "q")),
        *(op("ReduceMean", "q", "v", axes=[-1]), op("Add", "v e", "p"), op("Sqrt", "p", "r")),
        *(op("Div", "d r", "n"), op("Mul", "n s", "g"), op("Add", "g b", "h"), op("MatMul", "h w")),
    ]
    constants = NUMBERS | {"s": weights(8), "b": weights(8, seed=1), "w": weights(8, 3)}
    assert without_moves(proven(nodes, ["N", 7, 8], constants, opset=11)) == [*OVER_MAP, "dense"]


def test_global_response_normalization(proven) -> None:
    nodes = [
        *(op("ReduceL2", "x", "g", axes=[2, 3]), op("ReduceMean", "g", "m", axes=[1])),
        *(op("Add", "m e", "p"), op("Div", "g p", "n"), op("Mul", "x n", "a")),
        *(op("Mul", "a s", "c"), op("Add", "c b", "k"), op("Add", "x k")),
    ]
    constants = NUMBERS | {"s": weights(1, 6, 1, 1), "b": weights(1, 6, 1, 1, seed=1)}
    result = proven(nodes, X, constants)
    assert powers(result) == [(0.5, 0.0, 20.0), pytest.approx((-1.0, EPSILON))]
    head = ["mul", "avgpool", "activation", "conv", "activation", "mul", "mul"]
    assert without_moves(result) == [*head, "conv", "add"]


def test_unit_length_of_every_map(proven) -> None:
    nodes = [op("ReduceL2", "x", "n", axes=[2, 3]), op("Clip", "n tiny", "c"), op("Div", "x c")]
    result = proven(nodes, X, {"tiny": 1e-12})
    assert without_moves(result) == ["mul", "avgpool", "activation", "activation", "mul"]
    clip, power = (layer for layer in result.graph.layers if layer.kind == "activation")
    assert clip.constants[0] == pytest.approx(1e-24 / 20) and power.constants == (-0.5, 0.0, 20.0)


def test_a_bound_whose_square_is_no_number_stays_behind_the_root(proven) -> None:
    nodes = [op("ReduceL2", "x", "n", axes=[1]), op("Clip", "n tiny", "c"), op("Div", "x c")]
    graph = proven(nodes, X, {"tiny": 1e-24}).graph
    found = [layer.function for layer in graph.layers if layer.kind == "activation"]
    assert found == ["sqrt", "clip", "power"]


@pytest.mark.parametrize("bounded", ["Clip", "Max"])
def test_unit_length_along_channels(proven, bounded) -> None:
    """As F.normalize is exported: the least length becomes a bound of the sum, and what repeats it is left out."""
    least = op("Clip", "n tiny", "c") if bounded == "Clip" else op("Max", "n tiny", "c")
    nodes = [op("ReduceL2", "x", "n", axes=[1]), least, op("Expand", "c all", "r"), op("Div", "x r")]
    result = proven(nodes, X, {"tiny": 1e-12, "all": ints(1, 6, 4, 5)})
    assert powers(result) == [(-0.5, 0.0)] and kinds(result) == ["mul", "conv", "activation", "mul"]
    assert result.graph["conv1"].clip[0] == pytest.approx(1e-24)


def test_softsign_written_out(proven) -> None:
    nodes = [op("Abs", "x", "a"), op("Add", "a one", "p"), op("Div", "x p")]
    graph = proven(nodes, X, NUMBERS).graph
    found = [layer.function for layer in graph.layers if layer.kind == "activation"]
    assert found == ["abs", "power"] and not any(layer.host for layer in graph.layers)


SIGNLESS = {
    "a tensor of either sign": [op("Div", "x z")],
    "its mean, raised": [op("ReduceMean", "z", "m", axes=[1]), op("Add", "m one", "p"), op("Div", "x p")],
    "a root, lowered": [op("Sqrt", "z", "r"), op("Sub", "r one", "p"), op("Div", "x p")],
    "its third power": [op("Pow", "z three", "p"), op("Div", "x p")],
    "a leaky function": [op("LeakyRelu", "z", "p"), op("Div", "x p")],
}


@pytest.mark.parametrize("form", SIGNLESS)
def test_a_divisor_that_may_be_negative_is_the_hosts(proven, form, tmp_path) -> None:
    """Its reciprocal leaps from one end of the range to the other at 0, where a rounding decides."""
    nodes, inputs = SIGNLESS[form], {"x": X, "z": X}
    if form == "a root, lowered":
        nodes = [op("Mul", "z z", "y2"), op("Sqrt", "y2", "r"), *nodes[1:]]
    result = prove(network(nodes, inputs, NUMBERS | {"three": 3.0}), tmp_path, at_least_db=80)
    assert kinds(result)[-1] == "host_op"
    assert any("of either sign" in reason for reason in result.host_reasons.values())


def test_a_negative_power_of_a_tensor_of_either_sign_is_the_hosts(proven) -> None:
    assert kinds(proven(op("Pow", "x p"), X, {"p": -1.0}, at_least_db=80)) == ["host_op"]
    assert kinds(proven(op("Reciprocal", "x"), X, at_least_db=80)) == ["host_op"]


def test_behind_the_host_a_division_stays_one(proven) -> None:
    nodes = [
        *(op("Softmax", "x", "h"), op("ReduceMean", "h", "m", axes=[1]), op("Add", "m e", "p")),
        *(op("Sqrt", "p", "r"), op("Div", "h r", "y"), op("Reciprocal", "r", "z")),
    ]
    graph = proven(nodes, X, NUMBERS, outputs=("y", "z")).graph
    found = [getattr(layer, "operator", getattr(layer, "function", "")) for layer in graph.layers[2:]]
    assert found == ["ReduceMean", "Add", "sqrt", "Div", "Reciprocal"]
    assert all(layer.host for layer in graph.layers[1:])


@pytest.mark.parametrize("turned", [False, True])
def test_attention_without_a_softmax_divides_by_its_column_of_ones(proven, turned) -> None:
    """(q (k^T [v, 1])), whose last column divides the others: never negative, though the others may be."""
    nodes = [
        *(op("Relu", "x", "q"), op("Relu", "z", "k"), op("Transpose", "k", "k1", perm=[0, 1, 3, 2])),
        *(op("Pad", "z p one", "v"), op("MatMul", "k1 v", "kv"), op("MatMul", "q kv", "a")),
    ]
    axis = 3
    if turned:
        nodes[-1:] = [op("MatMul", "q kv", "a0"), op("Transpose", "a0", "a", perm=[0, 1, 3, 2])]
        axis = 2
    nodes += [
        op("Slice", "a zero last axis", "n"),
        op("Slice", "a last end axis", "d0"),
        op("Add", "d0 e", "d"),
    ]
    nodes += [op("Div", "n d", "r"), op("Conv", "r w")]
    constants = {
        name: np.asarray([value]) for name, value in (("zero", 0), ("last", 7), ("end", 9), ("axis", axis))
    }
    constants |= {"p": np.asarray([0, 0, 0, 0, 0, 0, 0, 1]), "one": np.float32(1), "e": np.float32(1e-3)}
    result = proven(nodes, {"x": ["N", 4, 6, 7], "z": ["N", 4, 6, 7]}, constants | {"w": weights(2, 4, 1, 1)})
    assert result.graph.coverage().layers_percent == 100


def test_other_columns_may_be_negative(proven) -> None:
    nodes = [op("Relu", "x", "q"), op("Pad", "z p one", "v"), op("MatMul", "q v", "a")]
    nodes += [op("Slice", "a zero last axis", "d"), op("Div", "one d")]
    constants = {name: np.asarray([value]) for name, value in (("zero", 0), ("last", 6), ("axis", 3))}
    constants |= {"p": np.asarray([0, 0, 0, 0, 0, 0, 0, 1]), "one": np.float32(1)}
    result = proven(nodes, {"x": ["N", 4, 6, 7], "z": ["N", 4, 7, 5]}, constants, at_least_db=90)
    assert "host_op" in kinds(result)

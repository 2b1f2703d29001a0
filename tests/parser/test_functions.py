"""Activation functions: as operators, and written out by exporters in any form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.parser.networks import kinds, op, weights

X = ["N", 3, 4, 5]


@pytest.mark.parametrize(
    ("operator", "attributes", "function", "opset"),
    [
        ("LeakyRelu", {"alpha": 0.1}, "leaky_relu", 9),
        ("Elu", {"alpha": 0.5}, "elu", 9),
        ("Selu", {}, "selu", 9),
        ("Celu", {"alpha": 2.0}, "celu", 12),
        ("Sigmoid", {}, "sigmoid", 7),
        ("HardSigmoid", {}, "hard_sigmoid", 9),
        ("HardSigmoid", {"alpha": 1 / 6}, "hard_sigmoid", 9),
        ("HardSwish", {}, "hard_swish", 14),
        ("Tanh", {}, "tanh", 9),
        ("Softplus", {}, "softplus", 9),
        ("Mish", {}, "mish", 18),
        ("Gelu", {}, "gelu", 20),
        ("Gelu", {"approximate": "tanh"}, "gelu_tanh", 20),
        ("Exp", {}, "exp", 9),
        ("Abs", {}, "abs", 9),
    ],
)
def test_operators(proven, operator, attributes, function, opset) -> None:
    result = proven(op(operator, "x", **attributes), X, opset=opset)
    assert kinds(result) == ["activation"] and result.graph["activation1"].function == function


@pytest.mark.parametrize("slope", [(3, 1, 1), (1, 3, 1, 1), (1,), (1, 1, 1)])
def test_prelu(proven, slope) -> None:
    result = proven(op("PRelu", "x s"), X, {"s": weights(*slope)})
    assert result.params["activation1"]["slope"].shape == (3,)


def test_powers(proven) -> None:
    nodes = [op("Pow", "x two", "s"), op("Add", "s one", "p"), op("Sqrt", "p", "r"), op("Pow", "r half")]
    result = proven(nodes, X, {"two": 2, "half": 0.5, "one": 1})
    assert kinds(result) == ["mul", "activation"]
    assert result.graph["activation1"].constants == (0.25, 1.0), "what is before a power goes into it"
    assert kinds(proven(op("Pow", "x p"), X, {"p": 3})) == ["activation"]


WRITTEN_OUT = {
    "silu": ([op("Sigmoid", "x", "s"), op("Mul", "s x")], {}),
    "hard_swish": (
        [op("Add", "x three", "a"), op("Clip", "a low high", "c"), op("Mul", "x c", "m"), op("Div", "m six")],
        {"three": 3, "low": 0, "high": 6, "six": 6},
    ),
    "hard_swish by hard sigmoid": ([op("HardSigmoid", "x", "h", alpha=1 / 6), op("Mul", "x h")], {}),
    "hard_swish by factors": (
        [
            op("Add", "three x", "a"),
            op("Relu", "a", "r"),
            op("Min", "r six", "c"),
            op("Mul", "c k", "h"),
            op("Mul", "h x"),
        ],
        {"three": 3, "six": 6, "k": 1 / 6},
    ),
    "hard_sigmoid": (
        [op("Add", "x three", "a"), op("Clip", "a low high", "c"), op("Div", "c six")],
        {"three": 3, "low": 0, "high": 6, "six": 6},
    ),
    "mish": ([op("Softplus", "x", "s"), op("Tanh", "s", "t"), op("Mul", "x t")], {}),
    "gelu": (
        [
            op("Div", "x root", "d"),
            op("Erf", "d", "e"),
            op("Add", "e one", "a"),
            op("Mul", "x a", "m"),
            op("Mul", "m half"),
        ],
        {"root": math.sqrt(2), "one": 1, "half": 0.5},
    ),
    "gelu_tanh": (
        [
            op("Pow", "x three", "p"),
            op("Mul", "p cubic", "q"),
            op("Add", "x q", "s"),
            op("Mul", "s root", "u"),
            op("Tanh", "u", "t"),
            op("Add", "t one", "a"),
            op("Mul", "x half", "h"),
            op("Mul", "h a"),
        ],
        {"three": 3, "cubic": 0.044715, "root": math.sqrt(2 / math.pi), "one": 1, "half": 0.5},
    ),
}


LEAKY = {
    "leaky_relu by maximum": ([op("Mul", "x tenth", "m"), op("Max", "x m")], {"tenth": 0.1}),
    "leaky_relu by parts": (
        [
            op("Relu", "x", "r"),
            op("Neg", "x", "n"),
            op("Relu", "n", "s"),
            op("Mul", "s k", "t"),
            op("Sub", "r t"),
        ],
        {"k": 0.3},
    ),
    "leaky_relu by magnitudes": (
        [op("Abs", "x", "a"), op("Mul", "x k", "m"), op("Mul", "a l", "n"), op("Add", "m n")],
        {"k": 0.6, "l": 0.4},
    ),
    "leaky_relu by choice": (
        [op("Greater", "x zero", "g"), op("Mul", "x k", "m"), op("Where", "g x m")],
        {"zero": 0, "k": 1.5},
    ),
}
WRITTEN_OUT |= LEAKY


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1)])
@pytest.mark.parametrize("form", LEAKY)
def test_prelus_written_out(proven, form, shape) -> None:
    """The same with a number for each channel, as Keras's PReLU is exported."""
    nodes, constants = LEAKY[form]
    factors = weights(*shape)
    changed = {
        "tenth": {"tenth": np.minimum(factors, 1)},
        "l": {"k": 1 - factors, "l": factors},
    }
    name = next((name for name in changed if name in constants), None)
    result = proven(nodes, X, constants | (changed[name] if name else {"k": factors}))
    assert kinds(result) == ["activation"] and result.graph["activation1"].function == "prelu"


@pytest.mark.parametrize(("shape", "factors"), [(["N", 3], (3,)), (["N", 3], (1, 3)), (["N", 3, 5], (3, 1))])
def test_prelus_written_out_for_vectors_and_rows(proven, shape, factors) -> None:
    nodes, _ = LEAKY["leaky_relu by parts"]
    result = proven(nodes, shape, {"k": weights(*factors)})
    assert [layer.function for layer in result.graph.layers if layer.kind == "activation"] == ["prelu"]


def test_numbers_by_channel_that_make_no_prelu_keep_their_layers(proven) -> None:
    nodes = [op("Mul", "x k", "m"), op("Sigmoid", "m", "s"), op("Mul", "s x")]
    assert kinds(proven(nodes, X, {"k": weights(3, 1, 1)})) == ["conv", "activation", "mul"]


@pytest.mark.parametrize(
    ("shape", "factors"),
    [(["N", 2, 3, 4, 5], (3, 1, 1)), (X, (5,)), (X, (4, 1)), (["N", 1, 4, 5], (3, 1, 1))],
)
def test_numbers_along_another_axis_make_no_prelu(proven, shape, factors) -> None:
    """Or where there is but one channel, which the constant repeats."""
    nodes = [
        op("Neg", "x", "n"),
        op("Relu", "n", "s"),
        op("Mul", "s k", "t"),
        op("Relu", "x", "r"),
        op("Sub", "r t"),
    ]
    result = proven(nodes, shape, {"k": weights(*factors)})
    assert "prelu" not in [getattr(layer, "function", "") for layer in result.graph.layers]


@pytest.mark.parametrize("form", WRITTEN_OUT)
def test_functions_written_out(proven, form) -> None:
    nodes, constants = WRITTEN_OUT[form]
    result = proven(nodes, X, constants)
    assert kinds(result) == ["activation"] and result.graph["activation1"].function == form.split()[0]
    assert result.graph["activation1"].origin == tuple(node.name for node in nodes)


def test_a_function_whose_parts_are_read_elsewhere_stays_in_parts(proven) -> None:
    nodes = [op("Sigmoid", "x", "s"), op("Mul", "s x", "m"), op("Add", "m s")]
    assert kinds(proven(nodes, X)) == ["activation", "mul", "add"]


def test_a_relu_within_a_relu6_becomes_one_bound(proven) -> None:
    nodes = [op("Conv", "x w", "c"), op("Relu", "c", "r"), op("Min", "r six")]
    result = proven(nodes, X, {"w": weights(2, 3, 1, 1), "six": 6})
    assert kinds(result) == ["conv"] and result.graph["conv1"].clip == (0.0, 6.0)


def test_an_unknown_function_keeps_its_layers(proven) -> None:
    nodes = [op("Sigmoid", "x", "s"), op("Mul", "s k", "m"), op("Mul", "m x")]
    result = proven(nodes, X, {"k": np.float32(1.7)[None]})
    assert kinds(result) == ["activation", "mul"]
    assert result.graph["activation1"].affine == (pytest.approx(1.7), 0.0)


def test_constants_behind_a_function_go_into_its_table(proven) -> None:
    """As behind every hard swish of PP-LCNetV3: a padded convolution could not take up the offset."""
    nodes = [
        op("HardSwish", "x", "s"),
        op("Mul", "s k", "t"),
        op("Add", "t c", "u"),
        op("Conv", "u w", pads=[1, 1, 1, 1]),
    ]
    constants = {"k": np.float32(-1.5), "c": np.float32(0.25), "w": weights(2, 3, 3, 3)}
    result = proven(nodes, X, constants)
    assert kinds(result) == ["activation", "conv"]
    assert result.graph["activation1"].affine == (-1.5, 0.25)
    assert result.graph["activation1"].origin == tuple(node.name for node in nodes[:3])


@pytest.mark.parametrize("reason", ["read elsewhere", "by channel", "homogeneous", "a pole"])
def test_constants_behind_a_function_stay_a_layer(proven, reason) -> None:
    function, factor = op("Sigmoid", "x", "s"), np.float32(1.5)
    if reason == "homogeneous":
        function = op("LeakyRelu", "x", "s")
    elif reason == "a pole":
        function = op("Reciprocal", "p", "s")
    elif reason == "by channel":
        factor = weights(3, 1, 1)
    nodes = [
        function,
        op("Mul", "s k", "t"),
        op("Add", "t c", "u"),
        op("Conv", "u w", "v", pads=[1, 1, 1, 1]),
    ]
    if reason == "a pole":
        nodes = [op("Exp", "x", "e"), op("Add", "e one", "p"), *nodes]
    outputs = ["v", "s"] if reason == "read elsewhere" else ["v"]
    constants = {"k": factor, "c": np.float32(0.25), "one": np.float32(1), "w": weights(2, 3, 3, 3)}
    result = proven(nodes, X, constants, outputs=outputs)
    assert kinds(result)[-2:] == ["conv", "conv"]

"""Element-wise functions of one tensor: the ReLU family, sigmoids, and whatever else becomes a table in integers.

`Clip`, `Relu` and their like become an Activation `clip`, which a later pass fuses into the layer before it.
"""

from __future__ import annotations

import math

import numpy as np

from mz.graph import Activation, Mul
from mz.parser.draft import Draft
from mz.parser.node import ON_TENSOR, Convert, Node, Rule, Value, always, constant_settings

FLOAT32_MAX = float(np.finfo(np.float32).max)


def activation(
    node: Node,
    draft: Draft,
    x: Value,
    function: str,
    constants: tuple[float, ...] = (),
    slope: np.ndarray | None = None,
) -> Value:
    """An Activation layer on a tensor."""
    layer = draft.emit(
        Activation,
        [x.layer],
        x.layer_shape,
        [node.name],
        None if slope is None else {"slope": slope},
        function=function,
        constants=constants,
    )
    return Value(layer, x.shape, x.batch_axis)


def clip(node: Node, draft: Draft, x: Value, low: float, high: float) -> Value:
    """A clip to [low, high], where float32's largest number counts as no bound."""
    low = -math.inf if low <= -FLOAT32_MAX else low
    high = math.inf if high >= FLOAT32_MAX else high
    return activation(node, draft, x, "clip", (low, high))


def slope_per_channel(node: Node) -> str | None:
    """The slope is a constant, one for all or one per channel (axis 1)."""
    slope = node.operand(1)
    if not isinstance(slope, np.ndarray):
        return "a tensor of the network"
    aligned = (1,) * (len(node.x.shape) - slope.ndim) + slope.shape
    allowed = {tuple(n if axis == 1 else 1 for axis in range(len(aligned))) for n in (1, node.x.shape[1])}
    return None if aligned in allowed and node.x.batch_axis == 0 else f"shape {list(slope.shape)}"


def exponent_constant(node: Node) -> str | None:
    """The exponent is a constant number."""
    exponent = node.operand(1)
    return None if isinstance(exponent, np.ndarray) and exponent.size == 1 else "no single constant"


def base_never_negative(node: Node) -> str | None:
    """Where the exponent is -1, -2 and so on, the tensor cannot be negative."""
    exponent = float(np.asarray(node.constant(1)).reshape(()))
    whole = exponent < 0 and exponent.is_integer()
    return f"exponent {exponent:g}" if whole and 0 not in node.never_negative else None


def _fixed(function: str, *attributes: tuple[str, float]) -> Convert:
    """An operator that is a function of its own name, with these attributes and their defaults as constants."""

    def convert(node: Node, draft: Draft) -> Value:
        constants = tuple(float(node.attribute(name, default)) for name, default in attributes)
        return activation(node, draft, node.x, function, constants)

    convert.__doc__ = f"Activation `{function}`."
    return convert


def _relu(node: Node, draft: Draft) -> Value:
    """A clip at 0, fused into the layer before it where that has weights or is element-wise."""
    return clip(node, draft, node.x, 0.0, math.inf)


def _clip(node: Node, draft: Draft) -> Value:
    """A clip, fused into the layer before it where that has weights or is element-wise."""
    low, high = node.setting("min", 1), node.setting("max", 2)
    floor, ceiling = -math.inf if low is None else _scalar(low), math.inf if high is None else _scalar(high)
    return clip(node, draft, node.x, floor, ceiling)


def _scalar(setting: float | list[float]) -> float:
    return float(np.asarray(setting).reshape(()))


def _prelu(node: Node, draft: Draft) -> Value:
    """Activation `prelu` with one slope per channel."""
    slope = node.constant(1)
    assert slope is not None
    by_channel = np.broadcast_to(slope.reshape(-1), (node.x.shape[1],))
    return activation(node, draft, node.x, "prelu", slope=by_channel)


def _gelu(node: Node, draft: Draft) -> Value:
    """Activation `gelu` or `gelu_tanh`."""
    tanh = node.attribute("approximate", "none") == "tanh"
    return activation(node, draft, node.x, "gelu_tanh" if tanh else "gelu")


def _pow(node: Node, draft: Draft) -> Value:
    """Activation `sqrt` or `power`; a square is the tensor's product with itself."""
    x, exponent = node.x, float(np.asarray(node.constant(1)).reshape(()))
    if exponent == 2.0:
        return Value(draft.emit(Mul, [x.layer, x.layer], x.layer_shape, [node.name]), x.shape, x.batch_axis)
    if exponent == 0.5:
        return activation(node, draft, x, "sqrt")
    return activation(node, draft, x, "power", (exponent, 0.0))


def never_negative(node: Node) -> str | None:
    """The tensor cannot be negative: it comes of roots, squares, a ReLU, an exponential and their like."""
    return None if 0 in node.never_negative else ""


def _reciprocal(node: Node, draft: Draft) -> Value:
    """Activation `power`, which takes up a root and an epsilon before it."""
    return reciprocal(node, draft, node.x)


def reciprocal(node: Node, draft: Draft, x: Value) -> Value:
    """1 / x for a tensor that is never negative; at 0 the largest number that a table has."""
    return activation(node, draft, x, "power", (-1.0, 0.0))


RULES = {
    "Relu": Rule(_relu, ON_TENSOR),
    "Clip": Rule(_clip, (*ON_TENSOR, constant_settings)),
    "PRelu": Rule(_prelu, (*ON_TENSOR, slope_per_channel)),
    "Gelu": Rule(_gelu, ON_TENSOR),
    "Pow": Rule(_pow, (*ON_TENSOR, exponent_constant, base_never_negative)),
    "Reciprocal": Rule(_reciprocal, (*ON_TENSOR, never_negative), written_out=always),
} | {
    op_type: Rule(_fixed(function, *attributes), ON_TENSOR)
    for op_type, function, *attributes in (
        ("LeakyRelu", "leaky_relu", ("alpha", 0.01)),
        ("Elu", "elu", ("alpha", 1.0)),
        ("Selu", "selu", ("alpha", 1.6732631921768188), ("gamma", 1.0507010221481323)),
        ("Celu", "celu", ("alpha", 1.0)),
        ("Sigmoid", "sigmoid"),
        ("HardSigmoid", "hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
        ("HardSwish", "hard_swish"),
        ("Tanh", "tanh"),
        ("Softplus", "softplus"),
        ("Mish", "mish"),
        ("Exp", "exp"),
        ("Abs", "abs"),
        ("Sqrt", "sqrt"),
    )
}

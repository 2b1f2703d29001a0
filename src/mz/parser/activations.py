"""Element-wise functions of one tensor: the ReLU family, sigmoids, and whatever else becomes a table in integers.

`Clip`, `Relu` and their like become an Activation `clip`, which a later pass fuses into the layer before it.
"""

from __future__ import annotations

import math

import numpy as np

from mz.graph import Activation
from mz.parser.draft import Draft
from mz.parser.node import ON_TENSOR, Convert, Node, Rule, Value, constant_settings

FLOAT32_MAX = float(np.finfo(np.float32).max)


def activation(
    node: Node,
    draft: Draft,
    function: str,
    constants: tuple[float, ...] = (),
    slope: np.ndarray | None = None,
) -> Value:
    """An Activation layer on the node's first input."""
    x = node.x
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


def clip(node: Node, draft: Draft, low: float, high: float) -> Value:
    """A clip to [low, high], where float32's largest number counts as no bound."""
    low = -math.inf if low <= -FLOAT32_MAX else low
    high = math.inf if high >= FLOAT32_MAX else high
    return activation(node, draft, "clip", (low, high))


def slope_per_channel(node: Node) -> str | None:
    """The slope is a constant, one for all or one per channel (axis 1)."""
    slope = node.operand(1)
    if not isinstance(slope, np.ndarray):
        return "a tensor of the network"
    aligned = (1,) * (len(node.x.shape) - slope.ndim) + slope.shape
    allowed = {tuple(n if axis == 1 else 1 for axis in range(len(aligned))) for n in (1, node.x.shape[1])}
    return None if aligned in allowed and node.x.batch_axis == 0 else f"shape {list(slope.shape)}"


def exponent_above_zero(node: Node) -> str | None:
    """The exponent is a constant number above 0."""
    exponent = node.operand(1)
    if not isinstance(exponent, np.ndarray) or exponent.size != 1:
        return "no single constant"
    return None if float(exponent.reshape(())) > 0 else f"{float(exponent.reshape(()))}"


def _fixed(function: str, *attributes: tuple[str, float]) -> Convert:
    """An operator that is a function of its own name, with these attributes and their defaults as constants."""

    def convert(node: Node, draft: Draft) -> Value:
        constants = tuple(float(node.attribute(name, default)) for name, default in attributes)
        return activation(node, draft, function, constants)

    convert.__doc__ = f"Activation `{function}`."
    return convert


def _relu(node: Node, draft: Draft) -> Value:
    """A clip at 0, fused into the layer before it where that has weights or is element-wise."""
    return clip(node, draft, 0.0, math.inf)


def _clip(node: Node, draft: Draft) -> Value:
    """A clip, fused into the layer before it where that has weights or is element-wise."""
    low, high = node.setting("min", 1), node.setting("max", 2)
    return clip(
        node, draft, -math.inf if low is None else _scalar(low), math.inf if high is None else _scalar(high)
    )


def _scalar(setting: float | list[float]) -> float:
    return float(np.asarray(setting).reshape(()))


def _prelu(node: Node, draft: Draft) -> Value:
    """Activation `prelu` with one slope per channel."""
    slope = node.constant(1)
    assert slope is not None
    return activation(node, draft, "prelu", slope=np.broadcast_to(slope.reshape(-1), (node.x.shape[1],)))


def _gelu(node: Node, draft: Draft) -> Value:
    """Activation `gelu` or `gelu_tanh`."""
    return activation(node, draft, "gelu_tanh" if node.attribute("approximate", "none") == "tanh" else "gelu")


def _pow(node: Node, draft: Draft) -> Value:
    """Activation `square`, `sqrt` or `power`."""
    exponent = node.constant(1)
    assert exponent is not None
    number = float(exponent.reshape(()))
    if number in (2.0, 0.5):
        return activation(node, draft, "square" if number == 2.0 else "sqrt")
    return activation(node, draft, "power", (number, 0.0))


RULES = {
    "Relu": Rule(_relu, ON_TENSOR),
    "Clip": Rule(_clip, (*ON_TENSOR, constant_settings)),
    "PRelu": Rule(_prelu, (*ON_TENSOR, slope_per_channel)),
    "Gelu": Rule(_gelu, ON_TENSOR),
    "Pow": Rule(_pow, (*ON_TENSOR, exponent_above_zero)),
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

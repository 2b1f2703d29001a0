"""Element-wise activation functions, in float64 on numpy arrays: what tables are made of and floats are checked with.

Each takes the array and the constants of its ONNX attributes, or, where it differs from channel to channel, arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from mz.graph.layers import IDLE

Array = np.ndarray
_ERF = np.frompyfunc(math.erf, 1, 1)


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -700.0, 700.0)))


def hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def hard_swish(x: Array) -> Array:
    return x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)


def leaky_relu(x: Array, alpha: float = 0.01) -> Array:
    return np.where(x >= 0, x, alpha * x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def selu(x: Array, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Array:
    return gamma * elu(x, alpha)


def celu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


def softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def clip(x: Array, low: float = -math.inf, high: float = math.inf) -> Array:
    return np.clip(x, low, high)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.asarray(_ERF(x / math.sqrt(2.0)), np.float64))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def mish(x: Array) -> Array:
    return x * np.tanh(softplus(x))


def power(x: Array, exponent: float = 1.0, offset: float = 0.0, factor: float = 1.0) -> Array:
    """(factor * x + offset) ** exponent; a base below zero counts as zero unless the exponent is a whole number."""
    base = np.asarray(factor * x + offset, np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        return np.power(base if float(exponent).is_integer() else np.maximum(base, 0.0), exponent)


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x >= 0, x, slope * x)


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "celu": celu,
    "softplus": softplus,
    "tanh": np.tanh,
    "clip": clip,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "mish": mish,
    "abs": np.abs,
    "exp": np.exp,
    "sqrt": lambda x: np.sqrt(np.maximum(x, 0.0)),
    "square": np.square,
    "power": power,
}
"""Those that are the same for all channels, by the name that `Activation.function` holds."""

BY_CHANNEL: dict[str, Callable[..., Array]] = {"prelu": prelu}

HOMOGENEOUS = ("leaky_relu", "prelu", "relu", "abs")
"""Those with f(c x) = c f(x) for every c > 0."""

ARRAYS: dict[str, tuple[str, ...]] = {"prelu": ("slope",)}
"""What those take beside x, by the names that `Params` holds them under."""


SCALING = ("factor", "gain")
"""What every other function takes beside x where it is scaled: gain f(factor x)."""


def along_channels(params: Mapping[str, Array], axes: int) -> dict[str, Array]:
    """An activation's arrays [C], float64 with `axes` axes behind the channels'; none for one that is alike for all."""
    return {name: array.astype(np.float64).reshape(-1, *(1,) * axes) for name, array in params.items()}


def apply(
    function: str,
    x: Array,
    constants: tuple[float, ...] = (),
    arrays: Mapping[str, Array] | None = None,
    affine: tuple[float, float] = IDLE,
) -> Array:
    """`function` over `x` in float64, then `affine`: a factor and an offset. arrays: where it differs by channel,
    broadcasting to x (`along_channels`).

    Raises KeyError for a function that is in neither table.
    """
    x = np.asarray(x, np.float64)
    if function in BY_CHANNEL:
        return np.asarray(BY_CHANNEL[function](x, **(arrays or {})), np.float64)
    factor, offset = affine
    made = factor * FUNCTIONS[function](arrays["factor"] * x if arrays else x, *constants) + offset
    return np.asarray(arrays["gain"] * made if arrays else made, np.float64)

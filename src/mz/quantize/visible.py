"""Which values of a tensor the functions that read it can tell apart: to a hard swish all below -3 are the same."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mz.graph import Activation, Graph, Layer, Params, Resize
from mz.graph.functions import BY_CHANNEL, FUNCTIONS
from mz.quantize.groups import is_move

Ends = tuple[np.ndarray, np.ndarray]
"""The lowest and the highest value that count, float32 [C, 1, 1], or [] where they are the same for all channels;
infinite where all count."""

_FAR = 1024.0
"""A function that varies out here can tell all values apart."""


def visible_ends(graph: Graph, params: Params) -> dict[str, Ends]:
    """By accelerator tensor that nothing but activation functions reads, where all of these become constant.

    Through moves too, where the ends are the same for all channels. Tensors of which every value counts are not among
    them, nor are those read by functions that differ in more than scale from channel to channel.
    """
    found: dict[str, Ends] = {}
    outputs = set(graph.accelerator_outputs())
    for layer in reversed(graph.layers):
        readers = graph.consumers[layer.name]
        ends = [_ends_of_reader(one, params, found) for one in readers]
        seen = [one for one in ends if one is not None]
        if layer.host or layer.name in outputs or not readers or len(seen) < len(readers):
            continue
        lows, highs = zip(*seen, strict=True)
        low, high = np.min(np.broadcast_arrays(*lows), axis=0), np.max(np.broadcast_arrays(*highs), axis=0)
        if np.isfinite(low).any() or np.isfinite(high).any():
            found[layer.name] = low, high
    return {layer.name: found[layer.name] for layer in graph.layers if layer.name in found}


def _ends_of_reader(layer: Layer, params: Params, found: Mapping[str, Ends]) -> Ends | None:
    """What it can tell apart of what it reads; None where that is everything. found: of all later tensors."""
    if isinstance(layer, Activation):
        return None if layer.function in BY_CHANNEL else _ends(layer, params)
    ends = found.get(layer.name)
    # What lies between two values beyond an end may lie before it.
    moved = is_move(layer) and not (isinstance(layer, Resize) and layer.mode == "bilinear")
    return ends if moved and ends is not None and not ends[0].ndim else None


def as_seen(values: np.ndarray, ends: Ends | None) -> np.ndarray:
    """Values [N, C, H, W] of a tensor, with the ends for what lies beyond them."""
    return values if ends is None else np.clip(values, *ends)


def scaled_ends(graph: Graph, params: Params) -> dict[str, Ends]:
    """Those that differ by channel, which a histogram of all channels together cannot show."""
    return {name: ends for name, ends in visible_ends(graph, params).items() if ends[0].ndim}


def _ends(layer: Activation, params: Params) -> Ends:
    low, high = (_constant_from(layer, sign * _FAR) for sign in (-1, 1))
    factor = params[layer.name]["factor"].reshape(-1, 1, 1) if layer.scaled else 1.0
    return np.asarray(low / factor, np.float32), np.asarray(high / factor, np.float32)


def _constant_from(layer: Activation, far: float) -> float:
    """The value nearest to 0 from which on the function is constant up to `far`, found to a thousandth; infinite where
    it varies out there.
    """
    end, near = far, 0.0
    for _ in range(2):
        steps = np.linspace(end, near, (1 << 12) + 1)
        with np.errstate(all="ignore"):
            made = FUNCTIONS[layer.function](steps, *layer.constants)
        differs = np.flatnonzero(made != made[0])
        if not differs.size:
            return near
        end, near = float(steps[differs[0] - 1]), float(steps[differs[0]])
        if end == far or not np.isfinite(made).all():
            return math.copysign(math.inf, far)
    return end

"""Variances of normalizations and what divides by them: few values, each of which scales a whole map or row."""

from __future__ import annotations

from mz.graph import Activation, Graph

_INVERSE_ROOT = -0.5


def normalization_scales(graph: Graph) -> list[str]:
    """The layers whose tensors hold them: 1 / sqrt(variance + epsilon), and the variance.

    Their errors are the same all over a map, so that they do not cancel out in sums, and a variance of some image may
    lie far beyond those of the calibration set.
    """
    divisors = [
        layer
        for layer in graph.layers
        if isinstance(layer, Activation)
        and not layer.host
        and (layer.function, layer.constants[:1]) == ("power", (_INVERSE_ROOT,))
    ]
    return [name for layer in divisors for name in (*layer.inputs, layer.name)]

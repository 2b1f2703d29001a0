"""Puts an activation function behind outputs of the network."""

from __future__ import annotations

import dataclasses

from mz.errors import UserError
from mz.graph import Activation, Graph, Layer, Softmax, Weighted
from mz.graph.layers import UNBOUNDED

_CONSTANTS = {"leaky_relu": (0.01,), "hard_sigmoid": (1 / 6, 0.5)}
_CLIPS = {"relu": (0.0, float("inf"))}


def change_output_activation(graph: Graph, *, function: str, layer: str | None = None) -> Graph:
    """The graph whose output `layer` (all of them for None) is `function` of what it was.

    A relu joins a layer with weights; softmax runs on the host. Raises UserError for a layer that is no output.
    """
    chosen = graph.outputs if layer is None else (layer,)
    if layer is not None and layer not in graph.outputs:
        raise UserError(
            f"change_output_activation: {layer} is no output of {graph.name}; those are "
            + ", ".join(graph.outputs)
        )
    layers: list[Layer] = []
    renamed: dict[str, str] = {}
    for made in graph.layers:
        if (
            made.name in chosen
            and function in _CLIPS
            and isinstance(made, Weighted)
            and made.clip == UNBOUNDED
        ):
            layers.append(dataclasses.replace(made, clip=_CLIPS[function]))
            continue
        layers.append(made)
        if made.name in chosen:
            renamed[made.name] = name = f"{made.name}_{function}"
            layers.append(_activation(made, name, function))
    outputs = tuple(renamed.get(name, name) for name in graph.outputs)
    return dataclasses.replace(graph, layers=tuple(layers), outputs=outputs)


def _activation(source: Layer, name: str, function: str) -> Layer:
    if function == "softmax":
        axis = 0 if len(source.shape) == 3 else len(source.shape) - 1
        return Softmax(name=name, inputs=(source.name,), shape=source.shape, axis=axis, host=True)
    constants = (0.0, float("inf")) if function == "relu" else _CONSTANTS.get(function, ())
    return Activation(
        name=name,
        inputs=(source.name,),
        shape=source.shape,
        function="clip" if function == "relu" else function,
        constants=constants,
        host=source.host,
    )

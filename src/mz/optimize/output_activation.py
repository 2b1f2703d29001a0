"""Changes the activation function of outputs of the network."""

from __future__ import annotations

import dataclasses

from mz.errors import UserError
from mz.graph import Activation, Elementwise, Graph, Layer, Softmax, Weighted
from mz.graph.functions import BY_CHANNEL
from mz.graph.layers import IDLE, UNBOUNDED

_RELU = (0.0, float("inf"))
_CONSTANTS = {"leaky_relu": (0.01,), "hard_sigmoid": (1 / 6, 0.5), "relu": _RELU}


def change_output_activation(graph: Graph, *, function: str, layer: str | None = None) -> Graph:
    """The graph whose output `layer` (every output for None) has `function` in the place of the one that it had.

    layer: an output, or the layer whose activation function is one. function: `linear` is none. A relu joins the layer
    that makes its input; softmax runs on the host. What is asked for twice is done once. Raises UserError for a layer
    that is no output, and for a function that cannot be taken away.
    """
    for name in _outputs(graph, layer):
        if not _has(graph[name], function):
            graph, bare = _without(graph, name)
            graph = graph if function == "linear" else _with(graph, bare, function)
    return graph


def added_activations(graph: Graph, function: str) -> list[str]:
    """The layers that `change_output_activation` added to the graph."""
    return [
        name
        for name in graph.outputs
        if isinstance(graph[name], Activation | Softmax) and name == _name(graph[name].inputs[0], function)
    ]


def _name(source: str, function: str) -> str:
    return f"{source}_{function}"


def _outputs(graph: Graph, layer: str | None) -> tuple[str, ...]:
    if layer is None:
        return graph.outputs
    behind = tuple(
        name
        for name in graph.outputs
        if isinstance(graph[name], Activation | Softmax) and graph[name].inputs == (layer,)
    )
    if layer not in graph.outputs and not behind:
        raise UserError(
            f"change_output_activation: {layer} is no output of {graph.name}; those are "
            + ", ".join(graph.outputs)
        )
    return (layer,) if layer in graph.outputs else behind


def _has(made: Layer, function: str) -> bool:
    if isinstance(made, Activation):
        return made.function == ("clip" if function == "relu" else function) and (
            made.constants == _CONSTANTS.get(function, ()) and made.affine == IDLE
        )
    if isinstance(made, Softmax):
        return function == "softmax"
    return function == "relu" and getattr(made, "clip", UNBOUNDED) == _RELU


def _without(graph: Graph, output: str) -> tuple[Graph, str]:
    """The graph with the output as it is before its activation function, and that output's name."""
    made, readers = graph[output], graph.consumers[output]
    if isinstance(made, Weighted | Elementwise) and made.clip != UNBOUNDED:
        if readers:
            raise UserError(
                f"change_output_activation: the activation function of {output} cannot change, as "
                f"{', '.join(reader.name for reader in readers)} reads it too"
            )
        return graph.replace({output: dataclasses.replace(made, clip=UNBOUNDED)}), output
    if not isinstance(made, Activation | Softmax) or getattr(made, "affine", IDLE) != IDLE:
        return graph, output
    if isinstance(made, Activation) and made.function in BY_CHANNEL:
        raise UserError(f"change_output_activation: {output} is a PReLU, whose slopes were learnt")
    (source,) = made.inputs
    outputs = tuple(source if name == output else name for name in graph.outputs)
    layers = graph.layers if readers else tuple(layer for layer in graph.layers if layer is not made)
    return dataclasses.replace(graph, layers=layers, outputs=outputs), source


def _with(graph: Graph, output: str, function: str) -> Graph:
    """The graph with a function behind an output that has none."""
    made = graph[output]
    if function == "relu" and isinstance(made, Weighted | Elementwise) and not graph.consumers[output]:
        return graph.replace({output: dataclasses.replace(made, clip=_RELU)})
    name = _name(output, function)
    place = graph.layers.index(made) + 1
    layers = (*graph.layers[:place], _activation(made, name, function), *graph.layers[place:])
    outputs = tuple(name if one == output else one for one in graph.outputs)
    return dataclasses.replace(graph, layers=layers, outputs=outputs)


def _activation(source: Layer, name: str, function: str) -> Layer:
    if function == "softmax":
        axis = 0 if len(source.shape) == 3 else len(source.shape) - 1
        return Softmax(name=name, inputs=(source.name,), shape=source.shape, axis=axis, host=True)
    return Activation(
        name=name,
        inputs=(source.name,),
        shape=source.shape,
        function="clip" if function == "relu" else function,
        constants=_CONSTANTS.get(function, ()),
        host=source.host,
    )

"""`parse`: an ONNX file becomes a graph with its parameters, and an account of what was fused on the way.

Reads the file (`onnx_file`), converts node by node (`conversion`, one file of rules per family of operators), rewrites
the draft (`passes`) and names the layers (`naming`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mz.graph import Activation, Graph, Input, Params, Reshape, Softmax, Transpose
from mz.parser.conversion import convert
from mz.parser.draft import Draft
from mz.parser.naming import final_names
from mz.parser.onnx_file import cut_model, input_shapes_for_one_image, with_input_shapes
from mz.parser.passes import PASSES

if TYPE_CHECKING:
    import onnx

_REORDERING = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True, slots=True)
class ParseResult:
    """A parsed network.

    input_names, output_names: ONNX tensor by the name of the layer that stands for it.
    scores: by output that is a sigmoid or a softmax, reshaped or not, the layer that this reads and that layer's ONNX
        tensor.
    notes: what was fused, folded or left as it is, and why; one line each, beginning with the layer's name.
    host_reasons: why, by layer, for each that the host's part begins with of its own accord, in the order of layers.
    """

    graph: Graph
    params: Params
    input_names: dict[str, str]
    output_names: dict[str, str]
    scores: dict[str, tuple[str, str]]
    notes: list[str]
    host_reasons: dict[str, str]


def parse(
    model_path: Path,
    *,
    name: str,
    start_nodes: Sequence[str] = (),
    end_nodes: Sequence[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> ParseResult:
    """The network of an ONNX file (opset 7 to 23), from `start_nodes` to `end_nodes` where these are given.

    input_shapes: shapes, by ONNX input, where the file leaves more open than the batch axis or states others.
    Raises UserError for an unreadable file, unknown node names, and, all in one message, unsupported operators.
    """
    model = cut_model(model_path, start_nodes, end_nodes)
    shapes = input_shapes_for_one_image(model, model_path, input_shapes)
    with_input_shapes(model, shapes)
    draft = convert(model, shapes, str(model_path))
    for rewrite in PASSES:
        rewrite(draft)
    names = final_names(draft)
    graph = Graph(
        name=name,
        layers=tuple(
            dataclasses.replace(
                layer, name=names[layer.name], inputs=tuple(names[source] for source in layer.inputs)
            )
            for layer in draft.in_order()
        ),
        outputs=tuple(names[output] for output in draft.outputs),
    )
    output_names = dict(zip(graph.outputs, (info.name for info in model.graph.output), strict=True))
    return ParseResult(
        graph=graph,
        params={names[key]: _stored(arrays) for key, arrays in draft.params.items()},
        input_names=dict(zip((layer.name for layer in graph.inputs), shapes, strict=True)),
        output_names=output_names,
        scores=_scores(graph, output_names, model),
        notes=_notes(draft, names),
        host_reasons=_host_reasons(draft, names),
    )


def _scores(
    graph: Graph, output_names: Mapping[str, str], model: onnx.ModelProto
) -> dict[str, tuple[str, str]]:
    """What sigmoids and softmaxes at the end of the network read, in the graph and in its ONNX."""
    made_by = {tensor: node for node in model.graph.node for tensor in node.output}
    found = {}
    for output, tensor in output_names.items():
        layer, node = graph[output], made_by.get(tensor)
        while isinstance(layer, (Reshape, Transpose)):
            layer = graph[layer.inputs[0]]
        while node is not None and node.op_type in _REORDERING:
            node = made_by.get(node.input[0])
        squashes = isinstance(layer, Softmax) or (
            isinstance(layer, Activation) and layer.function == "sigmoid"
        )
        if not squashes or isinstance(graph[layer.inputs[0]], Input):
            continue
        if node is not None and node.op_type in ("Sigmoid", "Softmax"):
            found[output] = (layer.inputs[0], node.input[0])
    return found


def _stored(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Float32, contiguous, and the network's own."""
    return {key: np.array(array, np.float32, order="C") for key, array in arrays.items()}


def _host_reasons(draft: Draft, names: Mapping[str, str]) -> dict[str, str]:
    """The draft's reasons under final names, in the order of the layers."""
    found = {draft.survivor(key): text for key, text in draft.host_reasons.items()}
    return {names[key]: found[key] for key in names if key in found and draft.layers[key].host}


def _notes(draft: Draft, names: Mapping[str, str]) -> list[str]:
    """The draft's notes under final names, in the order of the layers."""
    lines: dict[str, list[str]] = {name: [] for name in names}
    for key, text in draft.notes:
        survivor = draft.survivor(key)
        if survivor is not None:
            lines[survivor].append(f"{names[survivor]}: {text}")
    return list(dict.fromkeys(line for group in lines.values() for line in group))

"""What an archive holds, as plain data: for `mz har info` and whoever asks the same in Python."""

from __future__ import annotations

from typing import Any

from mz.archive.members import members
from mz.archive.model import Archive
from mz.graph import Graph, Layer, Params


def describe(archive: Archive) -> dict[str, Any]:
    """name, state, hw_arch, history, members (bytes by name), parameters, macs, layers (rows, of the working graph).

    A row has layer, kind, shape, parameters, macs, and `precision` where the layer is quantized (else None).
    """
    graph = archive.working_graph
    rows = [_row(archive, graph, archive.working_params, layer) for layer in graph.layers]
    return {
        "name": archive.name,
        "state": archive.state,
        "hw_arch": archive.hw_arch,
        "parameters": sum(row["parameters"] for row in rows),
        "macs": sum(row["macs"] for row in rows),
        "members": {name: len(data) for name, data in members(archive).items()},
        "layers": rows,
        "history": archive.history,
    }


def _row(archive: Archive, graph: Graph, params: Params, layer: Layer) -> dict[str, Any]:
    precision = None
    if archive.quantization is not None and layer.name in archive.quantization.tensors:
        bits = archive.quantization.layer_precision(layer.name)
        precision = str(bits) if layer.name in archive.quantization.weights else f"a{bits.activation_bits}"
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "parameters": sum(array.size for array in params.get(layer.name, {}).values()),
        "macs": graph.macs(layer),
        "precision": precision,
        "host": layer.host,
    }

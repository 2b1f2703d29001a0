"""What mz knows of its networks without running them: `mz list` and `mz info`."""

from __future__ import annotations

from typing import Any

from mz import archive as har
from mz import zoo
from mz.archive import Archive
from mz.flow.networks import configuration, parse
from mz.flow.options import ModelRef


def list_models(glob: str = "*") -> list[dict[str, Any]]:
    """One row for every network of the zoo that the shell pattern matches; empty where none does."""
    return [_row(zoo.load_network(name)) for name in zoo.network_names(glob)]


def info(ref: ModelRef) -> dict[str, Any]:
    """The row of one network, with input shapes, parameters and MACs counted on its graph."""
    archive: Archive = har.read(ref.har) if ref.har else parse(ref)
    graph = archive.working_graph
    coverage = graph.coverage()
    counted = {
        "input": {layer.name: list(layer.shape) for layer in graph.inputs},
        "outputs": {name: list(graph[name].shape) for name in graph.outputs},
        "layers": len(graph.layers),
        "parameters": sum(
            array.size for arrays in archive.working_params.values() for array in arrays.values()
        ),
        "macs": coverage.macs,
        "accelerator": {
            "layers_percent": round(coverage.layers_percent, 1),
            "macs_percent": round(coverage.macs_percent, 1),
        },
        "host": archive.report.get("parse", {}).get("host", {}),
    }
    row = _row(configuration(archive, ref)) | counted
    return row | {"state": archive.state, "hw_arch": archive.hw_arch} if ref.har else row


def _row(config: zoo.NetworkConfig) -> dict[str, Any]:
    known = config.info
    measured = zoo.to_dict(config)["info"]["full_precision"]
    accuracy = {name: value for name, value in measured.items() if name != "count" and value is not None}
    return {
        "name": config.network.name,
        "task": config.network.task,
        "description": known.description,
        "input": {name: list(shape) for name, shape in config.parser.input_shapes.items()},
        "parameters": known.parameters,
        "macs": known.macs,
        "full_precision": accuracy,
        "licence": known.licence,
        "source": known.source,
        "training_data": known.training_data,
    }

"""Builds tiny ONNX networks, parses them, and compares the parsed graph with onnxruntime on the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mz.engines.float_ort import FloatSession
from mz.engines.original import OriginalSession
from mz.parser import ParseResult, cut_model, parity_db, parse

Inputs = Mapping[str, Sequence[int | str]]
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8}


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Reproducible normal float32 values."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def normalization(channels: int) -> dict[str, np.ndarray]:
    """The constants of a batch normalization: scale, shift, mean and var."""
    found = {
        name: weights(channels, seed=seed)
        for seed, name in enumerate(("scale", "shift", "mean", "var"), start=1)
    }
    return found | {"var": np.abs(found["var"]) + 0.1}


def network(
    nodes: Sequence[onnx.NodeProto],
    inputs: Inputs,
    constants: Mapping[str, Any] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of these nodes; Python numbers among the constants become float32."""
    arrays = {
        name: value if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
        for name, value in (constants or {}).items()
    }
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSIONS.get(opset, 9)
    )


def op(op_type: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; names of its inputs and outputs in one string each, `_` for one left out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(
        op_type, names, outputs.split(), name=f"{op_type}_{outputs.split()[0]}", **attributes
    )


def prove(model: onnx.ModelProto, folder: Path, *, at_least_db: float = 110.0, **options: Any) -> ParseResult:
    """Parse the model and compare; the parity of tiny networks is above 110 dB."""
    path = folder / "network.onnx"
    onnx.save(model, path)
    result = parse(path, name="network", **options)
    cut = cut_model(path, options.get("start_nodes", ()), options.get("end_nodes", ()))
    found = parity_db(
        result, OriginalSession(cut, 1).run, FloatSession(result.graph, result.params, (), 1).run
    )
    assert found >= at_least_db, f"{found:.1f} dB; {result.graph}"
    return result


def kinds(result: ParseResult) -> list[str]:
    """Layer kinds without the inputs."""
    return [layer.kind for layer in result.graph.layers if layer.kind != "input"]

"""Attention through the stages: no layer on the host, and what its softmax reads in 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.flow.compiled import exact_forms
from tests.parser.networks import network, op, weights

from mz import flow
from mz.flow import ModelRef, OptimizeOptions
from mz.flow.options import InputOptions
from mz.graph import Activation, MatMul
from mz.quantize import softmax_scales

MEANS = InputOptions(mean=(127,), std=(64,))
HEADS, WIDTH, PLACES = 2, 6, 16
Files = tuple[Path, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, noise: Path) -> Files:
    """Patches as tokens, a class token, positions, attention of two heads with a bias of places, a classifier."""
    tokens, channels = PLACES + 1, HEADS * WIDTH
    nodes = [
        *(op("Conv", "x patch", "c", strides=[4, 4]), op("Reshape", "c flat", "f")),
        *(
            op("Transpose", "f", "t", perm=[0, 2, 1]),
            op("Concat", "token t", "j", axis=1),
            op("Add", "j place", "a"),
        ),
        *(
            op("MatMul", "a qkv", "m"),
            op("Reshape", "m apart", "r"),
            op("Transpose", "r", "u", perm=[2, 0, 3, 1, 4]),
        ),
        op("Split", "u", "q1 k1 v1", axis=0),
        *(op("Squeeze", f"{name}1 front", name) for name in "qkv"),
        *(
            op("Transpose", "k", "k2", perm=[0, 1, 3, 2]),
            op("MatMul", "q k2", "s"),
            op("Mul", "s share", "s1"),
        ),
        *(op("Add", "s1 bias", "s2"), op("Softmax", "s2", "p", axis=-1), op("MatMul", "p v", "o")),
        *(
            op("Transpose", "o", "o1", perm=[0, 2, 1, 3]),
            op("Reshape", "o1 joined", "o2"),
            op("MatMul", "o2 w", "o3"),
        ),
        *(
            op("Add", "o3 a", "b"),
            op("Gather", "b zero", "g", axis=1),
            op("Gemm", "g head", "h"),
            op("Softmax", "h"),
        ),
    ]
    arrays = {
        "flat": np.asarray([1, channels, PLACES]),
        "apart": np.asarray([1, tokens, 3, HEADS, WIDTH]),
        "joined": np.asarray([1, tokens, channels]),
        "zero": np.asarray(0),
        "front": np.asarray([0]),
        "patch": weights(channels, 3, 4, 4) / 7,
        "token": weights(1, 1, channels, seed=1),
        "place": weights(1, tokens, channels, seed=2) / 4,
        "qkv": weights(channels, 3 * channels, seed=3),
        "share": np.float32(WIDTH**-0.5),
        "bias": weights(HEADS, tokens, tokens, seed=4),
        "w": weights(channels, channels, seed=5),
        "head": weights(channels, 4, seed=6),
    }
    path = tmp_path_factory.mktemp("network") / "attention.onnx"
    onnx.save(network(nodes, {"x": ["N", 3, 16, 16]}, arrays, opset=13), path)
    return path, noise


def optimized(files: Files, **options) -> flow.OptimizeResult:
    asked = OptimizeOptions(calib_path=files[1], optimization_level=1, cache=False, **options)
    return flow.optimize(ModelRef(ckpt=files[0], images=MEANS), asked)


def test_attention_is_integers_and_what_is_compiled_is_exact(files: Files, tmp_path: Path) -> None:
    archive = optimized(files).archive
    graph, quantization = archive.working_graph, archive.quantization
    assert quantization is not None
    assert [layer.kind for layer in graph.layers if layer.host] == ["softmax"]
    scales = softmax_scales(graph)
    products = [layer.name for layer in graph.layers if isinstance(layer, MatMul)]
    assert len(products) == 2 and set(products) <= set(scales)
    assert {quantization.tensors[name].bits for name in scales} == {16}
    raised = [one.name for one in graph.layers if isinstance(one, Activation) and one.function == "exp"]
    assert [quantization.tensors[name].bits for name in raised] == [8]
    assert archive.report["optimize"]["noise"]["output_db"] > 20
    assert exact_forms(archive, files[1], tmp_path) == {"onnx", "c"}


def test_a_target_without_tables_of_16_bits_keeps_the_scores_fine(files: Files, short_tables: str) -> None:
    archive = optimized(files, hw_arch=short_tables).archive
    graph, quantization = archive.working_graph, archive.quantization
    assert quantization is not None
    assert {quantization.tensors[name].bits for name in softmax_scales(graph)} == {16}
    tables = [layer for layer in graph.layers if isinstance(layer, Activation) and not layer.host]
    assert {quantization.tensors[name].bits for one in tables for name in (one.name, *one.inputs)} == {8}


def test_a_script_decides(files: Files, tmp_path: Path) -> None:
    script = tmp_path / "mine.alls"
    script.write_text("quantization_param({*}, precision_mode=a8_w8)\n")
    quantization = optimized(files, script=script).archive.quantization
    assert quantization is not None
    assert {tensor.bits for tensor in quantization.tensors.values()} == {8}

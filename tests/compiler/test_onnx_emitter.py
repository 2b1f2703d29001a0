"""The compiled ONNX file: the same bytes every time, and in plain onnxruntime the emulator's integers."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from mz.compiler.emitters.onnx import emit
from mz.emulator import NumpySession
from mz.emulator.kernels import KERNELS
from mz.engines.float_ort import FloatSession
from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Concat,
    Conv,
    Deconv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MatMul,
    MaxPool,
    Mul,
    Pad,
    Params,
    Precision,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Sub,
    Transpose,
)
from mz.quantize import Recipe, collect, quantize

RELU6 = (0.0, 6.0)


def layer(cls, name: str, shape: tuple[int, ...], *inputs: str, **fields) -> Layer:
    return cls(name=name, inputs=inputs, shape=shape, **fields)


def network(seed: int) -> tuple[Graph, Params]:
    """Every layer kind once at least, with random weights."""
    same = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    layers = (
        layer(Input, "x", (3, 8, 8)),
        layer(Pad, "pad1", (3, 10, 10), "x", pads=(1, 1, 1, 1)),
        layer(Conv, "conv1", (8, 8, 8), "pad1", kernel_shape=(3, 3), clip=RELU6),
        layer(Conv, "dw1", (8, 8, 8), "conv1", groups=8, **same),
        layer(Activation, "swish1", (8, 8, 8), "dw1", function="hard_swish"),
        layer(GlobalAvgPool, "mean1", (8, 1, 1), "swish1"),
        layer(Conv, "gate1", (8, 1, 1), "mean1", kernel_shape=(1, 1)),
        layer(Activation, "sigmoid1", (8, 1, 1), "gate1", function="sigmoid"),
        layer(Mul, "scaled", (8, 8, 8), "swish1", "sigmoid1"),
        layer(Add, "add1", (8, 8, 8), "scaled", "conv1", clip=RELU6),
        layer(MaxPool, "max1", (8, 4, 4), "add1", kernel_shape=(2, 2), strides=(2, 2)),
        layer(AvgPool, "avg1", (8, 4, 4), "add1", kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 0, 0)),
        layer(Sub, "sub1", (8, 4, 4), "max1", "avg1"),
        layer(Deconv, "deconv1", (4, 8, 8), "sub1", kernel_shape=(2, 2), strides=(2, 2)),
        layer(Resize, "resize1", (8, 8, 8), "sub1", mode="bilinear", scales=(2.0, 2.0)),
        layer(Concat, "concat1", (12, 8, 8), "deconv1", "resize1"),
        layer(Slice, "slice1", (6, 8, 8), "concat1", starts=(0, 0, 0), stops=(12, 8, 8), steps=(2, 1, 1)),
        layer(Transpose, "turn1", (8, 8, 6), "slice1", permutation=(1, 2, 0)),
        layer(Transpose, "turn2", (8, 6, 8), "turn1", permutation=(0, 2, 1)),
        layer(MatMul, "matmul1", (8, 8, 8), "turn1", "turn2", factor=0.25),
        layer(Dense, "fc1", (8, 8, 5), "matmul1"),
        layer(Reshape, "flat1", (320,), "fc1"),
        layer(Dense, "fc2", (10,), "flat1"),
        layer(Softmax, "softmax1", (10,), "fc2", host=True),
    )
    shapes = {
        "conv1": (8, 3, 3, 3), "dw1": (8, 1, 3, 3), "gate1": (8, 8, 1, 1), "deconv1": (8, 4, 2, 2), "fc1": (5, 8),
        "fc2": (10, 320),
    }  # fmt: skip
    rng = np.random.default_rng(seed)
    params = {
        name: {
            "kernel": rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32),
            "bias": rng.normal(0, 0.1, 4 if name == "deconv1" else shape[0]).astype(np.float32),
        }
        for name, shape in shapes.items()
    }
    return Graph("everything", layers, ("softmax1",)), params


def images(count: int, seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(0, 1, (count, 3, 8, 8)).astype(np.float32)}


def quantized(precision: str, seed: int = 0):
    graph, params = network(seed)
    session = FloatSession(graph, params, taps=[one.name for one in graph.layers if not one.host])
    recipe = Recipe(Precision.parse(precision))
    return graph, params, quantize(graph, params, collect(session, [images(16, 1)], 1), recipe)


def test_the_network_has_every_kind_of_accelerator_layer():
    assert {one.kind for one in network(0)[0].layers} >= set(KERNELS)


@pytest.mark.parametrize("precision", ["a8_w8", "a8_w4", "a16_w8", "a4_w4", "a16_w16"])
def test_plain_onnxruntime_gives_the_emulators_integers(precision, tmp_path):
    graph, params, quantization = quantized(precision)
    path = tmp_path / "net.onnx"
    path.write_bytes(emit(graph, params, quantization))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fresh = images(32, seed=2)
    expected = NumpySession(graph, params, quantization).run(fresh)
    assert [one.name for one in session.get_inputs()] == ["x"]
    found = dict(zip([one.name for one in session.get_outputs()], session.run(None, fresh), strict=True))
    assert set(found) == set(expected) == {"fc2"}
    np.testing.assert_array_equal(found["fc2"], expected["fc2"])
    assert len(np.unique(expected["fc2"])) > 5

    described = json.loads(session.get_modelmeta().custom_metadata_map["mz_outputs"])
    t = quantization.tensors["fc2"]
    text = json.dumps(described)
    assert "fc2" in text and str(t.zero_point) in text


def test_the_same_network_gives_the_same_bytes():
    first, second = (emit(*quantized("a8_w4")) for _ in range(2))
    assert first == second
    assert first != emit(*quantized("a8_w4", seed=1))
    onnx.checker.check_model(onnx.load_from_string(first), full_check=True)

"""The integer ONNX in onnxruntime against the numpy emulator: kernels at real sizes, and whole graphs."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import onnxruntime
import pytest
from tests.quantize.networks import LINEAR_KINDS, layer_and_kernel

from mz.emulator import NumpySession
from mz.engines import integer_ort
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.lower_integer import integer_model
from mz.engines.lower_integer_tensors import FLOAT_ROAD, PORTABLE
from mz.engines.self_test import trusted_kernels
from mz.graph import (
    Activation,
    Add,
    Concat,
    Conv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    MaxPool,
    Mul,
    Quantization,
    Reshape,
    Slice,
    Softmax,
    TensorQuant,
    WeightQuant,
)


def conv_case(cin, cout, kernel, size, groups=1, stride=1, bits=(8, 8, 8), extreme=False, seed=0):
    """A convolution with SAME padding, its quantization, and real inputs [2, cin, size, size]."""
    rng = np.random.default_rng(seed)
    x_bits, weight_bits, y_bits = bits
    top, x_max = 2 ** (weight_bits - 1) - 1, 2**x_bits - 1
    shape = (cout, cin // groups, kernel, kernel)
    weights = rng.choice([-top, top], shape) if extreme else rng.integers(-top, top + 1, shape)
    if extreme:
        weights[: cout // 2] = top
    taps = shape[1] * kernel * kernel
    spread = top * x_max * taps**0.5
    x = TensorQuant(np.float32(0.05), int(rng.choice([0, x_max, x_max // 2])), x_bits)
    y = TensorQuant(np.float32(0.05 * spread / 2**y_bits), int(rng.integers(0, 2**y_bits)), y_bits)
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1
    layer = Conv(
        name="conv1", inputs=("x",), shape=(cout, out, out), kernel_shape=(kernel, kernel), groups=groups,
        strides=(stride, stride), pads=(pad,) * 4,
    )  # fmt: skip
    quantization = Quantization(
        {"x": x, "conv1": y},
        {
            "conv1": WeightQuant(
                weights.astype(np.int8 if weight_bits <= 8 else np.int16),
                (2.0 ** rng.uniform(-1, 1, cout)).astype(np.float32),
                rng.integers(-9999, 9999, cout),
                weight_bits,
            )
        },
    )
    q = (
        rng.choice([0, x_max], (2, cin, size, size))
        if extreme
        else rng.integers(0, x_max + 1, (2, cin, size, size))
    )
    graph = Graph("g", (Input(name="x", inputs=(), shape=(cin, size, size)), layer), ("conv1",))
    return graph, quantization, {"x": x.dequantize(q)}


SIZES = [
    # cin, cout, kernel, size, groups, stride
    (3, 16, 3, 32, 1, 2),
    (67, 131, 1, 7, 1, 1),
    (256, 64, 1, 5, 1, 1),
    (512, 33, 3, 4, 1, 1),
    (64, 64, 3, 14, 64, 1),
    (33, 33, 5, 9, 33, 2),
    (16, 32, 3, 9, 16, 1),
    (64, 48, 3, 8, 4, 1),
    (2048, 10, 1, 1, 1, 1),
]


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    "bits", [(8, 8, 8), (8, 4, 4), (8, 8, 16), (16, 8, 8), (8, 16, 8), (16, 16, 16), (16, 4, 16)]
)
def test_convolutions_at_real_sizes(sizes, bits, extreme):
    """Every block and remainder of the runtime's kernels; with `extreme`, the longest sums that the bits allow."""
    graph, quantization, feeds = conv_case(*sizes, bits=bits, extreme=extreme, seed=sum(sizes))
    expected = NumpySession(graph, {}, quantization).run(feeds)["conv1"]
    got = IntegerOrtSession(graph, {}, quantization).run(feeds)["conv1"]
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(expected)) > 2


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("bits", [(8, 8, 8), (8, 4, 4), (8, 8, 16), (16, 8, 8)])
@pytest.mark.parametrize("steep", [False, True])
def test_prelus_of_convolutions_at_real_sizes(sizes, bits, steep):
    """Slopes of 0, below 0 and up to 1, or beyond 1 besides."""
    graph, quantization, feeds = conv_case(*sizes, bits=bits, seed=sum(sizes))
    layer = dataclasses.replace(graph["conv1"], prelu=True)
    slope = np.random.default_rng(1).choice([0, 0.1, 0.7, 1, -0.3, *[3.0, -2.0] * steep], layer.shape[0])
    params = {"conv1": {"slope": slope.astype(np.float32)}}
    graph = graph.replace({"conv1": layer})
    expected = NumpySession(graph, params, quantization).run(feeds)["conv1"]
    for kernels in (PORTABLE, FLOAT_ROAD, dataclasses.replace(PORTABLE, any_signed_conv=True)):
        model = integer_model(graph, params, quantization, kernels=kernels).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        if kernels.any_signed_conv and not trusted_kernels()[1].any_signed_conv:
            continue
        np.testing.assert_array_equal(session.run(None, feeds)[0], expected)
    plain = NumpySession(graph.replace({"conv1": dataclasses.replace(layer, prelu=False)}), {}, quantization)
    assert (plain.run(feeds)["conv1"] != expected).mean() > 0.02


def network(bits: int, weight_bits: int = 8, seed: int = 0):
    """A small network with a residual, a squeeze-and-excite block, a concat, and a softmax on the host."""
    rng = np.random.default_rng(seed)
    c, size = 12, 10
    conv = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    layers = (
        Input(name="x", inputs=(), shape=(3, size, size)),
        Conv(name="conv1", inputs=("x",), shape=(c, size, size), clip=(0.0, 6.0), **conv),
        Conv(name="dw1", inputs=("conv1",), shape=(c, size, size), groups=c, **conv),
        Activation(name="act1", inputs=("dw1",), shape=(c, size, size), function="hard_swish"),
        GlobalAvgPool(name="gap1", inputs=("act1",), shape=(c, 1, 1)),
        Conv(name="conv2", inputs=("gap1",), shape=(c, 1, 1), kernel_shape=(1, 1)),
        Activation(
            name="gate", inputs=("conv2",), shape=(c, 1, 1), function="hard_sigmoid", constants=(1 / 6, 0.5)
        ),
        Mul(name="mul1", inputs=("act1", "gate"), shape=(c, size, size)),
        Add(name="add1", inputs=("conv1", "mul1"), shape=(c, size, size), clip=(0.0, np.inf)),
        MaxPool(name="pool1", inputs=("add1",), shape=(c, 5, 5), kernel_shape=(2, 2), strides=(2, 2)),
        MaxPool(
            name="pool2", inputs=("add1",), shape=(c, 5, 5), kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 0, 0)
        ),
        Concat(name="cat1", inputs=("pool1", "pool2"), shape=(2 * c, 5, 5)),
        Reshape(name="flat", inputs=("cat1",), shape=(2 * c * 25,)),
        Dense(name="fc1", inputs=("flat",), shape=(10,)),
        Softmax(name="softmax1", inputs=("fc1",), shape=(10,), host=True),
    )  # fmt: skip
    graph = Graph("net", layers, ("softmax1",))
    top = 2**bits - 1
    tensors = {
        name: TensorQuant(np.float32(span / top), round(zero * top), bits)
        for name, span, zero in (
            ("x", 2.0, 0.5), ("conv1", 6.0, 0.0), ("dw1", 9.0, 0.4), ("act1", 6.0, 0.06), ("gap1", 3.0, 0.1),
            ("conv2", 8.0, 0.5), ("gate", 1.0, 0.0), ("mul1", 6.0, 0.0706), ("add1", 9.0, 0.0), ("fc1", 30.0, 0.5),
        )
    }  # fmt: skip
    for name in ("pool1", "pool2", "cat1", "flat"):
        tensors[name] = tensors["add1"]
    shapes = {"conv1": (c, 3, 3, 3), "dw1": (c, 1, 3, 3), "conv2": (c, c, 1, 1), "fc1": (10, 2 * c * 25)}
    limit = 2 ** (weight_bits - 1) - 1
    weights = {
        name: WeightQuant(
            rng.integers(-limit, limit + 1, shape).astype(np.int8 if weight_bits <= 8 else np.int16),
            (rng.uniform(1, 2, shape[0]) * 2 / limit / np.sqrt(np.prod(shape[1:]))).astype(np.float32),
            rng.integers(-(2**bits), 2**bits, shape[0]),
            weight_bits,
        )
        for name, shape in shapes.items()
    }
    return graph, Quantization(tensors, weights)


@pytest.mark.parametrize(("bits", "weight_bits"), [*itertools.product((4, 8, 16), repeat=2)])
def test_whole_network_tensor_by_tensor(bits, weight_bits):
    graph, quantization = network(bits, weight_bits)
    taps = [layer.name for layer in graph.layers if not layer.host]
    feeds = {"x": np.random.default_rng(1).normal(0, 0.5, (3, 3, 10, 10)).astype(np.float32)}
    expected = NumpySession(graph, {}, quantization, taps).run(feeds)
    got = IntegerOrtSession(graph, {}, quantization, taps).run(feeds)
    assert set(got) == set(expected) == set(taps)
    for name in taps:
        assert got[name].dtype == (np.uint16 if bits > 8 else np.uint8)
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
        assert len(np.unique(got[name])) > 2, name


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", LINEAR_KINDS)
def test_rounded_sums_are_seldom_one_off(kind, bits):
    """As trials run networks: what weights of 16 bits say is there, in one convolution, but for float32's rounding."""
    rng = np.random.default_rng(3)
    layer, shape, kernel = layer_and_kernel(kind, rng)
    graph = Graph("one", (Input(name="x", inputs=(), shape=shape), layer), ("y",))
    outputs, top = (layer.shape[-1] if kind.startswith("dense") else layer.shape[0]), 2**bits - 1
    weight = WeightQuant(
        rng.integers(-32767, 32768, kernel.shape).astype(np.int16),
        rng.uniform(1e-5, 2e-5, outputs).astype(np.float32),
        rng.integers(-(2**16), 2**16, outputs),
        16,
    )
    tensors = {name: TensorQuant(np.float32(8 / top), round(0.4 * top), bits) for name in ("x", "y")}
    quantization = Quantization(tensors, {"y": weight})
    feeds = {"x": rng.normal(0, 1, (40, *shape)).astype(np.float32)}
    expected = NumpySession(graph, {}, quantization).run(feeds)["y"].astype(int)
    session = IntegerOrtSession(graph, {}, quantization, exact=False)
    off = np.abs(session.run(feeds)["y"].astype(int) - expected)
    assert off.max() <= 1 and (off > 0).mean() < 0.02 and len(np.unique(expected)) > 50
    assert sum(node.op_type in ("Conv", "ConvTranspose") for node in session._model.graph.node) == 1


def test_mixed_precision():
    """Every weighted and element-wise layer with other bits than its neighbours'."""
    graph, quantization = network(8)
    wide = network(16)[1]
    for name in ("conv1", "act1", "gate", "fc1"):
        quantization.tensors[name] = wide.tensors[name]
    quantization.weights["dw1"] = network(8, 4)[1].weights["dw1"]
    feeds = {"x": np.random.default_rng(1).normal(0, 0.5, (3, 3, 10, 10)).astype(np.float32)}
    taps = ("dw1", "mul1", "add1")
    expected = NumpySession(graph, {}, quantization, taps).run(feeds)
    got = IntegerOrtSession(graph, {}, quantization, taps).run(feeds)
    for name in (*taps, "fc1"):
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


@pytest.mark.parametrize("bits", [8, 16])
def test_batch_size_and_threads_change_nothing(bits):
    graph, quantization = network(bits)
    x = np.random.default_rng(1).normal(0, 0.5, (7, 3, 10, 10)).astype(np.float32)
    whole = IntegerOrtSession(graph, {}, quantization, threads=1).run({"x": x})["fc1"]
    two = IntegerOrtSession(graph, {}, quantization, threads=2)
    np.testing.assert_array_equal(two.run({"x": x})["fc1"], whole)
    np.testing.assert_array_equal(
        np.concatenate([two.run({"x": x[i : i + 1]})["fc1"] for i in range(7)]), whole
    )


@pytest.mark.parametrize("images", [1, 3, 6, 47])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_pieces_of_a_batch_keep_their_order(images, threads, bits):
    """Below two images a thread all threads share each layer; above, they take pieces; beyond 16 images, several, and
    beyond fewer where layers are summed in float64.
    """
    graph, quantization = network(bits)
    x = np.random.default_rng(2).normal(0, 0.5, (images, 3, 10, 10)).astype(np.float32)
    found = IntegerOrtSession(graph, {}, quantization, ["conv1"], threads=threads).run({"x": x})
    expected = NumpySession(graph, {}, quantization, ["conv1"]).run({"x": x})
    for name, value in expected.items():
        assert found[name].dtype == (np.uint8 if bits == 8 else np.uint16)
        np.testing.assert_array_equal(found[name], value)


def test_pieces_are_smaller_where_tensors_are_large(monkeypatch):
    graph, narrow = network(8)
    wide = network(16)[1]
    assert integer_ort._most_images(graph, narrow) == integer_ort._most_images(graph, wide) == 16
    largest = max(int(np.prod(layer.shape)) for layer in graph.layers)
    for images in (3, 1, 0):
        monkeypatch.setattr(integer_ort, "_WIDE_BYTES", 8 * largest * images)  # summed in float64
        assert integer_ort._most_images(graph, narrow) == 16
        assert integer_ort._most_images(graph, wide) == max(1, images)
    for images in (3, 1, 0):
        monkeypatch.setattr(integer_ort, "_NARROW_BYTES", 4 * largest * images)
        assert integer_ort._most_images(graph, narrow) == max(1, images)


@pytest.mark.parametrize(("start", "stop", "step"), [(0, 12, 2), (1, 12, 2), (2, 11, 3)])
@pytest.mark.parametrize("extra_reader", [False, True])
def test_a_slice_of_channels_goes_into_the_convolution_after_it(start, stop, step, extra_reader):
    graph, quantization = network(8)
    picked = len(range(start, stop, step))
    cut = Slice(
        name="cut", inputs=("add1",), shape=(picked, 10, 10),
        starts=(start, 0, 0), stops=(stop, 10, 10), steps=(step, 1, 1),
    )  # fmt: skip
    conv = Conv(name="y", inputs=("cut",), shape=(5, 10, 10), kernel_shape=(1, 1))
    pool = MaxPool(name="z", inputs=("cut",), shape=(picked, 5, 5), kernel_shape=(2, 2), strides=(2, 2))
    layers = (*graph.layers, cut, conv, *([pool] if extra_reader else []))
    outputs = ("y", "z") if extra_reader else ("y",)
    graph = Graph("cuts", layers, outputs)
    kernel = np.random.default_rng(3).integers(-127, 128, (5, picked, 1, 1)).astype(np.int8)
    tensors = quantization.tensors | dict.fromkeys(("cut", "z"), quantization.tensors["add1"])
    tensors["y"] = TensorQuant(np.float32(0.2), 128, 8)
    weight = WeightQuant(kernel, np.full(5, 0.01, np.float32), np.arange(5, dtype=np.int64), 8)
    quantization = Quantization(tensors, quantization.weights | {"y": weight})
    x = {"x": np.random.default_rng(1).normal(0, 0.5, (3, 3, 10, 10)).astype(np.float32)}
    expected = NumpySession(graph, {}, quantization).run(x)
    found = IntegerOrtSession(graph, {}, quantization).run(x)
    for name in outputs:
        np.testing.assert_array_equal(found[name], expected[name])
    slices = [node for node in integer_model(graph, {}, quantization).graph.node if node.op_type == "Slice"]
    assert len(slices) == extra_reader
    watched = IntegerOrtSession(graph, {}, quantization, ["cut"]).run(x)
    np.testing.assert_array_equal(
        watched["cut"], NumpySession(graph, {}, quantization, ["cut"]).run(x)["cut"]
    )
    np.testing.assert_array_equal(watched["y"], expected["y"])


def test_only_standard_operators_and_described_outputs():
    graph, quantization = network(8)
    model = integer_model(graph, {}, quantization)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    assert [output.name for output in model.graph.output] == ["fc1"]
    described = json.loads({entry.key: entry.value for entry in model.metadata_props}["mz_outputs"])
    q = quantization.tensors["fc1"]
    assert described == {"fc1": {"scale": float(q.scale), "zero_point": q.zero_point, "bits": 8}}


def test_the_same_quantization_gives_the_same_bytes():
    one, two = (
        integer_model(*(case[0], {}, case[1])).SerializeToString() for case in (network(8), network(8))
    )
    assert one == two

"""What is decided before a device runs: accumulator bounds, refusals by name, biases, tables, weights of a resize."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mz.emulator import NumpySession, layer_constants
from mz.emulator.constants import accumulator_bound
from mz.engines.integer_ort import IntegerOrtSession
from mz.errors import UserError
from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Conv,
    Deconv,
    Dense,
    Graph,
    Input,
    MaxPool,
    Mul,
    Quantization,
    Resize,
    TensorQuant,
    WeightQuant,
)
from mz.graph.resampling import bilinear_weights


def tensor(scale=1.0, zero_point=0, bits=8):
    return TensorQuant(np.float32(scale), zero_point, bits)


def dense_case(weight: int, count: int, bias: int, x=None, y=None, weight_bits: int = 8):
    """`count` equal weights into one output."""
    kernel = np.full((1, count), weight, np.int8 if weight_bits <= 8 else np.int16)
    graph = Graph(
        "g",
        (Input(name="x", inputs=(), shape=(count,)), Dense(name="fc1", inputs=("x",), shape=(1,))),
        ("fc1",),
    )
    weights = WeightQuant(kernel, np.array([1], np.float32), np.array([bias], np.int64), weight_bits)
    return graph, Quantization({"x": x or tensor(), "fc1": y or tensor(2.0**24)}, {"fc1": weights})


def test_accumulator_bound_is_reached_by_an_input():
    rng = np.random.default_rng(0)
    kernel, bias = rng.integers(-127, 128, (5, 3, 3, 3)), rng.integers(-999, 999, 5)
    for zero in (0, 100, 255):
        reached = []
        for o in range(5):
            for sign in (1, -1):
                x = np.where(kernel[o] * sign > 0, 255, 0) - zero
                reached.append(abs(int((x * kernel[o]).sum() + bias[o])))
        assert max(reached) <= accumulator_bound(kernel, bias, zero, 8)
    one_sided = np.abs(kernel)
    top = max(int(255 * one_sided[o].sum() + abs(bias[o])) for o in range(5))
    assert accumulator_bound(one_sided, np.abs(bias), 0, 8) == top


def test_grouped_transposed_kernels_are_bounded_from_above():
    kernel = np.ones((4, 2, 1, 1), np.int64)  # two groups of 2 -> 2: every output sums two inputs
    assert accumulator_bound(kernel, np.zeros(4, np.int64), 0, 8, output_axis=1) >= 2 * 255


def test_the_last_sum_that_fits_32_bits_is_exact_in_every_engine():
    """127 * 255 * 66,311 + bias = 2^31 - 1, from all inputs at their maximum."""
    count = 66_311
    bias = 2**31 - 1 - 127 * 255 * count
    assert 0 < bias < 127 * 255
    graph, quantization = dense_case(127, count, bias)
    feeds = {"x": np.full((2, count), 255, np.float32)}
    feeds["x"][1] = 0
    expected = [round(np.float32(2**31 - 1) * np.float32(2.0**-24)), 0]
    for engine in (NumpySession, IntegerOrtSession):
        assert engine(graph, {}, quantization).run(feeds)["fc1"][:, 0].tolist() == expected


def test_a_sum_that_could_pass_32_bits_is_refused_by_name():
    graph, quantization = dense_case(127, 66_312, 0)
    with pytest.raises(UserError, match=r"layer fc1: .*2,147,\d+.* 32-bit accumulator"):
        NumpySession(graph, {}, quantization)
    with pytest.raises(UserError, match="layer fc1"):
        IntegerOrtSession(graph, {}, quantization)


def test_the_bias_counts_towards_the_bound():
    graph, quantization = dense_case(1, 1, 2**31 - 256)
    layer_constants(graph, graph["fc1"], {}, quantization)
    graph, quantization = dense_case(1, 1, -(2**31 - 255))
    with pytest.raises(UserError, match="layer fc1"):
        layer_constants(graph, graph["fc1"], {}, quantization)


@pytest.mark.parametrize(("x_bits", "weight_bits"), [(16, 8), (8, 16), (16, 4)])
def test_wider_operands_have_wide_accumulators(x_bits, weight_bits):
    """A bias beyond 32 bits is no overflow there, and every engine adds it exactly."""
    bias = 2**40 + 1
    graph, quantization = dense_case(
        7, 3, bias, tensor(bits=x_bits), tensor(2.0**30, zero_point=9, bits=16), weight_bits
    )
    assert layer_constants(graph, graph["fc1"], {}, quantization).accumulator_bits == 64
    feeds = {"x": np.array([[1, 2, 3]], np.float32)}
    for engine in (NumpySession, IntegerOrtSession):
        assert engine(graph, {}, quantization).run(feeds)["fc1"].tolist() == [[1024 + 9]]
    graph, quantization = dense_case(7, 3, 2**53, tensor(bits=x_bits), tensor(2.0**30), weight_bits)
    with pytest.raises(UserError, match=r"layer fc1: .*64-bit"):
        layer_constants(graph, graph["fc1"], {}, quantization)


def test_a_long_16_bit_sum_is_cut_into_exact_pieces():
    """a16 x w16 over 3,000 inputs at their extremes: no float32 convolution could hold it whole."""
    rng = np.random.default_rng(3)
    graph, quantization = dense_case(
        32767, 3000, -12345, tensor(bits=16, zero_point=65535), tensor(2.0**27, 60000, 16), 16
    )
    kernel = quantization.weights["fc1"].kernel
    kernel[:] = rng.choice([-32767, 32767, 32766, 1], kernel.shape)
    q = rng.choice([0, 65535, 65534], (4, 3000))
    acc = (q - 65535).astype(np.int64) @ kernel[0].astype(np.int64) - 12345
    expected = np.clip(np.rint(acc.astype(np.float32) * np.float32(2.0**-27)) + 60000, 0, 65535)
    feeds = {"x": quantization.tensors["x"].dequantize(q)}
    for engine in (NumpySession, IntegerOrtSession):
        np.testing.assert_array_equal(engine(graph, {}, quantization).run(feeds)["fc1"][:, 0], expected)


def single(layer, tensors, shape=(2, 4, 4), names=("x",)):
    graph = Graph("g", (*(Input(name=n, inputs=(), shape=shape) for n in names), layer), (layer.name,))
    return lambda: layer_constants(graph, layer, {}, Quantization(tensors))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            single(
                MaxPool(name="maxpool1", inputs=("x",), shape=(2, 2, 2), kernel_shape=(3, 3)),
                {"x": tensor(0.5), "maxpool1": tensor(0.25)},
            ),
            "layer maxpool1: .*share scale, zero point and bits with x",
        ),
        (
            single(
                Add(name="ew_add1", inputs=("a", "b"), shape=(2, 4, 4)),
                {"a": tensor(1e9), "b": tensor(), "ew_add1": tensor()},
                names=("a", "b"),
            ),
            "layer ew_add1: .*dwarf",
        ),
        (
            single(
                Mul(name="ew_mult1", inputs=("a", "b"), shape=(2, 4, 4)),
                {"a": tensor(1e9), "b": tensor(), "ew_mult1": tensor()},
                names=("a", "b"),
            ),
            "layer ew_mult1: .*too small",
        ),
        (
            single(
                AvgPool(
                    name="avgpool1", inputs=("x",), shape=(2, 6, 4), kernel_shape=(1, 1), pads=(1, 0, 1, 0)
                ),
                {"x": tensor(), "avgpool1": tensor()},
            ),
            "layer avgpool1: .*padding alone",
        ),
    ],
)
def test_what_the_arithmetic_cannot_hold_is_refused_by_name(build, message):
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize("kind", [Conv, Deconv])
def test_a_multiplier_that_is_no_finite_number_is_refused(kind):
    layer = kind(name="conv1", inputs=("x",), shape=(1, 1, 1), kernel_shape=(1, 1))
    graph = Graph("g", (Input(name="x", inputs=(), shape=(1, 1, 1)), layer), ("conv1",))
    weights = WeightQuant(np.ones((1, 1, 1, 1), np.int8), np.array([1], np.float32), np.zeros(1, np.int64), 8)
    quantization = Quantization({"x": tensor(1e20), "conv1": tensor(1e-30)}, {"conv1": weights})
    with pytest.raises(UserError, match="layer conv1: .*too small"):
        layer_constants(graph, layer, {}, quantization)


def test_a_table_holds_the_function_of_every_integer():
    layer = Activation(name="y", inputs=("x",), shape=(1,), function="sigmoid")
    graph = Graph("g", (Input(name="x", inputs=(), shape=(1,)), layer), ("y",))
    quantization = Quantization({"x": tensor(0.05, 100), "y": tensor(1 / 255)})
    (table,) = layer_constants(graph, layer, {}, quantization).table
    s_x, s_y = float(np.float32(0.05)), float(np.float32(1 / 255))
    assert table.tolist() == [round(1 / (1 + math.exp(-s_x * (q - 100))) / s_y) for q in range(256)]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
def test_bilinear_weights_sum_to_one(bits, coordinates):
    """So a constant map stays constant, zero point included, and no weight is off by more than 2^-fraction_bits."""
    for size, out in ((1, 1), (1, 5), (3, 7), (5, 10), (7, 3)):
        layer = Resize(
            name="y", inputs=("x",), shape=(1, out, out), mode="bilinear", scales=(out / size,) * 2,
            coordinates=coordinates,
        )  # fmt: skip
        graph = Graph("g", (Input(name="x", inputs=(), shape=(1, size, size)), layer), ("y",))
        c = layer_constants(graph, layer, {}, Quantization({"x": tensor(bits=bits), "y": tensor(bits=bits)}))
        assert c.fraction_bits == (8 if bits == 8 else 16)
        assert (c.rows.sum(axis=1) == 2**c.fraction_bits).all()
        assert c.rows.min() >= 0
        exact = bilinear_weights(size, out, out / size, coordinates) * 2**c.fraction_bits
        assert np.abs(c.rows - exact).max() <= 1


@pytest.mark.parametrize(("x_bits", "weight_bits"), [(8, 16), (16, 8), (16, 16), (8, 8)])
def test_every_unit_of_a_long_sum_counts(x_bits, weight_bits):
    """Sums far beyond 2^24 that the bias brings back to 0 .. 255 with a multiplier of 1: one unit lost would show."""
    rng = np.random.default_rng(5)
    top, x_top = 2 ** (weight_bits - 1) - 1, 2**x_bits - 1
    graph, quantization = dense_case(1, 3001, 0, tensor(bits=x_bits), tensor(), weight_bits)
    weight = quantization.weights["fc1"]
    weight.kernel[:] = rng.integers(top - 2, top + 1, weight.kernel.shape)
    weight.kernel[0, -1] = 1
    q = np.empty((16, 3001), np.int64)
    q[:] = rng.integers(x_top - 2, x_top + 1, 3001)
    q[:, -1] = np.arange(16) * 9 + 100
    plain = q @ weight.kernel[0].astype(np.int64)
    assert plain.min() > 2**26
    weight.bias[:] = -int(plain[0]) + 101
    expected = (plain + weight.bias[0]).tolist()
    assert expected == [101 + 9 * i for i in range(16)]
    for engine in (NumpySession, IntegerOrtSession):
        got = engine(graph, {}, quantization).run({"x": q.astype(np.float32)})["fc1"]
        assert got[:, 0].tolist() == expected

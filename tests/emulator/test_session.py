"""Pieces, threads and counters of the numpy emulator: they change no integer, and count what was clipped."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from tests.engines.test_integer_ort import network

from mz.emulator import Clipped, NumpySession, Saturation
from mz.emulator import session as emulator_session
from mz.graph import Add, Conv, Graph, Input, Quantization, TensorQuant, WeightQuant


def images(count, seed=1):
    return {"x": np.random.default_rng(seed).normal(0, 0.5, (count, 3, 10, 10)).astype(np.float32)}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("piece_bytes", [1, 20_000, 1 << 30])
def test_pieces_and_threads_change_nothing(bits, threads, piece_bytes, monkeypatch):
    graph, quantization = network(bits)
    taps = [layer.name for layer in graph.layers if not layer.host]
    feeds = images(7)
    expected = NumpySession(graph, {}, quantization, taps, threads=1).run(feeds)
    monkeypatch.setattr(emulator_session, "_PIECE_BYTES", piece_bytes)
    found = NumpySession(graph, {}, quantization, taps, threads=threads).run(feeds)
    assert set(found) == set(taps)
    for name, value in expected.items():
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], value)


def test_a_batch_of_none_keeps_its_shapes():
    graph, quantization = network(8)
    assert NumpySession(graph, {}, quantization).run(images(0))["fc1"].shape == (0, 10)


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch):
    """Beside the images and the outputs, a batch takes what the pieces take that are under way."""
    monkeypatch.setattr(emulator_session, "_PIECE_BYTES", 16 << 10)
    graph, quantization = network(8)
    session = NumpySession(graph, {}, quantization, threads=2)
    session.run(images(4))
    peaks = []
    for count in (16, 512):
        feeds = images(count)
        tracemalloc.start()
        session.run(feeds)
        peaks.append(tracemalloc.get_traced_memory()[1] - count * 10 * 4 * 2)
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 500_000


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_counting_changes_no_integer(bits, threads):
    graph, quantization = network(bits)
    taps = [layer.name for layer in graph.layers if not layer.host]
    expected = NumpySession(graph, {}, quantization, taps).run(images(6))
    saturation = Saturation(quantization)
    found = NumpySession(graph, {}, quantization, taps, threads=threads, saturation=saturation).run(images(6))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert set(saturation.layers) == {"x", "conv1", "dw1", "gap1", "conv2", "mul1", "add1", "fc1"}
    for name, counted in saturation.layers.items():
        at_low = int((expected[name] == 0).sum())
        at_high = int((expected[name] == quantization.tensors[name].q_max).sum())
        assert counted.total == expected[name].size
        assert counted.low <= at_low
        assert counted.high <= at_high


def scaled(clip, factor, scale, zero):
    """y = factor x, one channel, x = -4 .. 5 with scale 1; y with the given scale and zero point."""
    layers = (
        Input(name="x", inputs=(), shape=(1, 1, 10)),
        Conv(name="y", inputs=("x",), shape=(1, 1, 10), kernel_shape=(1, 1), clip=clip),
    )
    tensors = {"x": TensorQuant(np.float32(1), 4, 8), "y": TensorQuant(np.float32(scale), zero, 8)}
    weight = WeightQuant(
        np.full((1, 1, 1, 1), 100, np.int8), np.full(1, factor / 100, np.float32), np.zeros(1, np.int64), 8
    )
    return Graph("scaled", layers, ("y",)), Quantization(tensors, {"y": weight})


@pytest.mark.parametrize(
    ("clip", "scale", "zero", "low", "high"),
    [
        ((-np.inf, np.inf), 1, 128, 0, 0),  # -40 .. 50 fits -128 .. 127
        ((-np.inf, np.inf), 0.25, 128, 1, 2),  # -32 .. 31.75: -40 is below; 40 and 50 are above
        ((0.0, np.inf), 0.1, 0, 0, 3),  # 0 .. 25.5: ReLU's part is not counted; 30, 40, 50 are
        ((0.0, 20.0), 20 / 255, 0, 0, 0),  # the clip's own bounds
        ((0.0, 35.0), 20 / 255, 0, 0, 3),  # a range below the clip's bound: 30, 40, 50
    ],
)
def test_what_the_range_cuts_off_is_counted(clip, scale, zero, low, high):
    graph, quantization = scaled(clip, 10.0, scale, zero)
    saturation = Saturation(quantization)
    session = NumpySession(graph, {}, quantization, threads=1, saturation=saturation)
    session.run({"x": np.arange(-4, 6, dtype=np.float32).reshape(1, 1, 1, 10)})
    assert saturation.layers["y"] == Clipped(10, low, high)
    assert saturation.layers["x"] == Clipped(10, 0, 0)
    assert saturation.layers["y"].share == (low + high) / 10


def test_inputs_and_sums_are_counted():
    shape = (4,)
    layers = (
        Input(name="a", inputs=(), shape=shape),
        Add(name="y", inputs=("a", "a"), shape=shape),
    )
    tensors = {"a": TensorQuant(np.float32(1), 0, 8), "y": TensorQuant(np.float32(1), 0, 8)}
    saturation = Saturation(Quantization(tensors))
    session = NumpySession(
        Graph("sum", layers, ("y",)), {}, Quantization(tensors), threads=1, saturation=saturation
    )
    session.run({"a": np.array([[-1, 100, 200, 300]], np.float32)})
    assert saturation.layers["a"] == Clipped(4, 1, 1)
    assert saturation.layers["y"] == Clipped(4, 0, 2)

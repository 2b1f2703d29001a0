"""Inputs that the network converts itself: the changed network on the changed image is the network on the image."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.optimize.networks import Builder

from mz.archive.model import params_fault
from mz.engines.float_ort import FloatSession
from mz.errors import UserError
from mz.graph import AvgPool, Conv, Graph, Input, Pad, Params
from mz.graph.layers import Pads
from mz.optimize import convert_input, device_input, fold_normalization, resize_input

few = settings(max_examples=25, deadline=None)
sides = st.integers(1, 6).map(lambda half: 2 * half)


def network(height: int = 6, width: int = 8, channels: int = 3) -> tuple[Graph, Params]:
    """A padded convolution over pixels, so that borders and the order of channels count."""
    b = Builder(0, channels)
    b.layers[0] = dataclasses.replace(b.layers[0], shape=(channels, height, width))
    b.conv(b.last, 4, 3)
    return Graph("pixels", tuple(b.layers), (b.last.name,)), b.params


def pixels(graph: Graph, count: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *graph.inputs[0].shape)).astype(np.float32)


def run(graph: Graph, params: Params, x: np.ndarray) -> np.ndarray:
    (found,) = FloatSession(graph, params).run({"input_layer1": x}).values()
    return found


def db(expected: np.ndarray, found: np.ndarray) -> float:
    noise = np.square(found - expected, dtype=np.float64).sum()
    return 10 * np.log10(np.square(expected, dtype=np.float64).sum() / noise) if noise else np.inf


@few
@given(
    st.lists(st.tuples(st.floats(0, 255), st.floats(0.5, 255)), min_size=1, max_size=4), st.integers(0, 99)
)
def test_a_folded_normalization_takes_pixels_and_gives_the_same(statistics, seed) -> None:
    graph, params = network(channels=len(statistics))
    mean, std = np.array(statistics).T.tolist()
    folded, arrays, form = fold_normalization(graph, params, name="norm1", mean=mean, std=std)
    assert params_fault(folded, arrays) is None
    raw = pixels(graph, seed=seed)
    normalized = ((raw - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))).astype(np.float32)
    assert db(run(graph, params, normalized), run(folded, arrays, raw)) > 80
    assert (device_input(form, normalized) == raw).all()


def readers() -> tuple[Graph, Params]:
    """An image that a strided convolution, a depthwise one and two of one padding read, and a pool."""
    rng = np.random.default_rng(0)
    image = Input(name="input_layer1", inputs=(), shape=(3, 6, 8))

    def conv(name: str, shape: tuple[int, int, int], pads: Pads, groups: int = 1, **more: Any) -> Conv:
        params[name] = {
            "kernel": rng.normal(size=(shape[0], 3 // groups, 3, 3)).astype(np.float32),
            "bias": rng.normal(size=shape[0]).astype(np.float32),
        }
        return Conv(
            name=name,
            inputs=("input_layer1",),
            shape=shape,
            kernel_shape=(3, 3),
            pads=pads,
            groups=groups,
            **more,
        )

    params: Params = {}
    layers = (
        image,
        conv("strided", (4, 3, 4), (0, 0, 1, 1), strides=(2, 2)),
        conv("depthwise", (6, 6, 8), (1, 1, 1, 1), groups=3),
        conv("inside", (2, 4, 6), (0, 0, 0, 0)),
        conv("same", (2, 6, 8), (1, 1, 1, 1)),
        AvgPool(name="pool", inputs=("input_layer1",), shape=(3, 3, 4), kernel_shape=(2, 2), strides=(2, 2)),
    )
    return Graph("readers", layers, ("strided", "depthwise", "inside", "same", "pool")), params


MEAN, STD = [10.0, 120.5, 255.0], [64.0, 1.5, 200.0]


def test_a_normalization_that_a_script_speaks_of_is_a_layer() -> None:
    graph, params = readers()
    changed, arrays, _ = fold_normalization(graph, params, name="n1", mean=MEAN, std=STD, separate=True)
    assert params_fault(changed, arrays) is None
    assert isinstance(changed["n1"], Conv) and changed["n1"].inputs == ("input_layer1",)
    assert (
        all(layer.inputs == ("n1",) for layer in changed.consumers["n1"])
        and len(changed.consumers["n1"]) == 5
    )


def test_every_reader_of_the_image_is_given_its_own() -> None:
    graph, params = readers()
    mean, std = MEAN, STD
    folded, arrays, _ = fold_normalization(graph, params, name="norm1", mean=mean, std=std)
    assert params_fault(folded, arrays) is None
    pads = {layer.name: layer for layer in folded.layers if isinstance(layer, Pad)}
    assert sorted(layer.pads for layer in pads.values()) == [(0, 0, 1, 1), (1, 1, 1, 1)]
    assert all(layer.values == tuple(mean) for layer in pads.values())
    assert folded["depthwise"].inputs == folded["same"].inputs and folded["inside"].inputs == (
        "input_layer1",
    )
    assert folded["pool"].inputs == ("norm1",)
    raw = pixels(graph)
    normalized = ((raw - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))).astype(np.float32)
    expected = FloatSession(graph, params).run({"input_layer1": normalized})
    found = FloatSession(folded, arrays).run({"input_layer1": raw})
    for name, values in expected.items():
        assert db(values, found[name]) > 80


@few
@given(st.sampled_from(["bgr_to_rgb", "rgbx_to_rgb"]), st.integers(1, 7), st.integers(1, 7))
def test_orders_of_channels_change_nothing(conversion, height, width) -> None:
    graph, params = network(height, width)
    changed, arrays, form = convert_input(graph, params, name="c1", conversion=conversion)
    raw = pixels(graph)
    fed = device_input(form, raw)
    assert fed.shape[1:] == changed.inputs[0].shape
    assert (run(changed, arrays, fed) == run(graph, params, raw)).all()


@few
@given(sides, sides, st.integers(0, 99), st.sampled_from(["nv12", "yuy2"]))
def test_halved_chroma_of_flat_blocks_comes_back_in_whole(height, width, seed, taken) -> None:
    graph, params = network(height, width)
    yuv = pixels(graph, seed=seed)
    yuv[:, 1:] = np.kron(
        yuv[:, 1:, ::2, ::2], np.ones((2, 2), np.float32)
    )  # one chroma for every 2 x 2 pixels
    changed, arrays, form = convert_input(graph, params, name="c1", conversion=f"{taken}_to_yuv")
    fed = device_input(form, yuv)
    assert (
        fed.shape[1:]
        == changed.inputs[0].shape
        == ((1, height * 3 // 2, width) if taken == "nv12" else (1, height, 2 * width))
    )
    assert (run(changed, arrays, fed) == run(graph, params, yuv)).all()


def colours(height: int = 8, width: int = 12) -> np.ndarray:
    """A smooth picture within the colours that chroma can hold, as bytes, [1, 3, H, W]."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [110 + 6 * x, 100 + 5 * y, 140 - 3 * x]
    return np.stack(planes)[None].astype(np.float32)


@pytest.mark.parametrize(
    ("conversion", "least"), [("yuv_to_rgb", 40.0), ("nv12_to_rgb", 30.0), ("yuy2_to_rgb", 30.0)]
)
def test_the_network_on_yuv_is_close_to_the_network_on_rgb(conversion, least) -> None:
    graph, params = network(8, 12)
    rgb = colours()
    changed, arrays, form = convert_input(graph, params, name="c1", conversion=conversion)
    assert params_fault(changed, arrays) is None
    assert db(run(graph, params, rgb), run(changed, arrays, device_input(form, rgb))) > least


def test_yuv_is_that_of_jpeg_files() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.float32)
    found = device_input([{"step": "yuv"}], rgb)
    expected = np.asarray(Image.fromarray(rgb[0].transpose(1, 2, 0).astype(np.uint8)).convert("YCbCr"))
    assert np.abs(found[0].transpose(1, 2, 0) - expected).max() <= 1


def test_the_bytes_of_packed_formats() -> None:
    luma = np.arange(1, 17).reshape(4, 4)
    chroma = np.kron([[30, 34], [38, 42]], np.ones((2, 2)))
    yuv = np.stack([luma, chroma, chroma + 100])[None].astype(np.float32)
    nv12 = device_input([{"step": "nv12"}], yuv)[0, 0]
    assert nv12[:4].tolist() == luma.tolist()
    assert nv12[4:].tolist() == [[30, 130, 34, 134], [38, 138, 42, 142]]
    yuy2 = device_input([{"step": "yuy2"}], yuv)[0, 0]
    assert yuy2[0].tolist() == [1, 30, 2, 130, 3, 34, 4, 134]
    assert yuy2[3].tolist() == [13, 38, 14, 138, 15, 42, 16, 142]
    averaged = yuv.copy()
    averaged[:, 1, 0, :2] = [10, 20]
    assert device_input([{"step": "yuy2"}], averaged)[0, 0, 0, 1] == 15
    assert device_input([{"step": "nv12"}], averaged)[0, 0, 4, 0] == np.rint((10 + 20 + 30 + 30) / 4)


@pytest.mark.parametrize("conversion", ["nv12_to_rgb", "nv12_to_yuv", "yuy2_to_rgb"])
def test_odd_sides_are_refused(conversion) -> None:
    graph, params = network(6, 7)
    with pytest.raises(UserError, match="c1: halved chroma wants even sides, and input_layer1 is 6 x 7"):
        convert_input(graph, params, name="c1", conversion=conversion)
    graph, params = network(7, 6)
    if conversion == "yuy2_to_rgb":  # its rows are whole
        convert_input(graph, params, name="c1", conversion=conversion)
    else:
        with pytest.raises(UserError, match="is 7 x 6"):
            convert_input(graph, params, name="c1", conversion=conversion)


def test_inputs_that_do_not_fit_are_refused() -> None:
    graph, params = network(channels=1)
    with pytest.raises(
        UserError, match="c1: bgr_to_rgb wants an image of 3 channels, and input_layer1 has 1"
    ):
        convert_input(graph, params, name="c1", conversion="bgr_to_rgb")
    with pytest.raises(UserError, match="n1: a normalization of 3 channels for the 1 of input_layer1"):
        fold_normalization(graph, params, name="n1", mean=[0, 0, 0], std=[1, 1, 1])
    with pytest.raises(UserError, match="knows no step 'turn'"):
        device_input([{"step": "turn"}], pixels(graph))
    flat = Graph("flat", (Input(name="input_layer1", inputs=(), shape=(7,)),), ("input_layer1",))
    with pytest.raises(UserError, match=r"wants one input image \[C, H, W\]; flat has input_layer1 \[7\]"):
        resize_input(flat, {}, name="r1", shape=(2, 2))


def test_a_resize_by_two_is_the_mean_of_four_pixels() -> None:
    graph, params = network(4, 6)
    changed, arrays, form = resize_input(graph, params, name="r1", shape=(8, 12))
    assert changed.inputs[0].shape == (3, 8, 12)
    large = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 12)).astype(np.float32)
    small = large.reshape(2, 3, 4, 2, 6, 2).mean(axis=(3, 5))
    assert db(run(graph, params, small), run(changed, arrays, large)) > 100
    flat = np.full((1, 3, 4, 6), 77, np.float32)
    assert (device_input(form, flat) == np.full((1, 3, 8, 12), 77)).all()


def test_passes_stack_and_the_last_one_meets_the_pixels_first() -> None:
    graph, params = network(8, 12)
    rgb = colours()
    mean, std = [10.0, 20.0, 30.0], [64.0, 65.0, 66.0]
    normalized = ((rgb - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))).astype(np.float32)
    changed, arrays, form = fold_normalization(graph, params, name="n1", mean=mean, std=std)
    for name, conversion in (("yuv", "yuv_to_rgb"), ("nv12", "nv12_to_yuv")):
        changed, arrays, steps = convert_input(changed, arrays, name=name, conversion=conversion)
        form = [*form, *steps]
    assert [step["step"] for step in form] == ["denormalize", "yuv", "nv12"]
    assert params_fault(changed, arrays) is None
    assert changed.inputs[0].shape == (1, 12, 12)
    assert isinstance(changed["yuv"], Conv) and changed["n1_pad1"].inputs == ("yuv",)
    assert db(run(graph, params, normalized), run(changed, arrays, device_input(form, normalized))) > 30

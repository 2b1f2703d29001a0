"""Equalization and bias absorption: the function stays, and the channels end up where the papers say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.optimize.networks import Builder, images, networks, output_db, step

from mz.archive.model import params_fault
from mz.emulator import NumpySession
from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.graph import Activation, Concat, Conv, Dense, Graph, Input, Reshape, Weighted
from mz.optimize import METHODS, Peaks, absorb_bias, channel_classes, equalize, find_peaks, rescale
from mz.quantize import Recipe, collect, image_bytes, quantize
from mz.quantize.groups import scale_groups
from mz.quantize.visible import Ends, scaled_ends, visible_ends


def tables(graph: Graph) -> list[str]:
    """All activation functions: any may have a table for each channel."""
    return [layer.name for layer in graph.layers if isinstance(layer, Activation)]


few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(networks(), st.integers(0, 100), st.booleans())
def test_any_factors_leave_the_function(network, seed, by_tables) -> None:
    graph, params = network
    channels = channel_classes(graph, "scale", tables(graph) if by_tables else ())
    factors = np.exp(np.random.default_rng(seed).normal(0, 1, channels.count))
    factors[channels.fixed] = 1
    other, scaled = rescale(graph, params, channels, factors)
    assert params_fault(other, scaled) is None
    assert output_db(graph, params, other, scaled, images(graph)) > 100


@few
@given(networks(), st.sampled_from(METHODS), st.booleans(), st.booleans(), st.booleans())
def test_equalization_leaves_the_function_on_images_that_it_has_not_seen(
    network, method, layer_scale, absorb, by_tables
) -> None:
    graph, params = network
    peaks = find_peaks(graph, params, [images(graph, 4)])
    other, changed = graph, params
    if absorb:
        other, changed, peaks, _ = absorb_bias(graph, params, peaks)
    scalable = tables(graph) if by_tables else ()
    other, changed, report = equalize(
        other, changed, peaks, method=method, layer_scale=layer_scale, scalable=scalable
    )
    assert params_fault(other, changed) is None
    assert output_db(graph, params, other, changed, images(graph, 8, seed=1)) > 80
    assert 1 / 16 <= report.smallest <= 1 <= report.largest <= 16


@few
@given(networks())
def test_peaks_of_two_halves_are_those_of_the_whole_and_of_every_place(network) -> None:
    graph, params = network
    feeds = images(graph, 5)
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    whole, channels = find_peaks(graph, params, [feeds]), channel_classes(graph, "scale")
    parts = [{name: x[cut] for name, x in feeds.items()} for cut in (slice(0, 2), slice(2, 5))]
    merged = find_peaks(graph, params, parts[:1]).merged(find_peaks(graph, params, parts[1:]))
    tensors = session.run(feeds)
    for name, classes in channels.classes.items():
        numbers, low, high = whole.by_class(channels, name)
        for number, least, most in zip(numbers, low, high, strict=True):
            mine = tensors[name][:, classes == number]
            assert (least, most) == pytest.approx((mine.min(), mine.max()), rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(merged.by_class(channels, name)[1], low, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(merged.by_class(channels, name)[2], high, rtol=1e-5, atol=1e-6)


@few
@given(networks())
def test_scales_keep_their_largest_value_and_integers_their_clip(network) -> None:
    graph, params = network
    feeds = images(graph, 4)
    peaks = find_peaks(graph, params, [feeds])
    other, changed, _ = equalize(
        graph, params, peaks, method="one_step", layer_scale=False, scalable=tables(graph)
    )
    after = find_peaks(other, changed, [feeds])

    def largest(peaks: Peaks, group: tuple[str, ...], ends: Mapping[str, Ends]) -> float:
        """Of what the readers of the group can tell apart."""
        counted = [
            np.clip(end, *ends.get(name, (-np.inf, np.inf)))
            for name in group
            for end in (peaks.low[name], peaks.high[name])
        ]
        return max(np.abs(end).max() for end in counted)

    came, went = visible_ends(graph, params), visible_ends(other, changed)
    for group in scale_groups(graph):
        assert largest(after, group, went) <= largest(peaks, group, came) * 1.001
    for layer in graph.layers:
        if isinstance(
            layer, Weighted
        ):  # so that one bound a tensor is still the float network's on these images
            assert after.high[layer.name].max() <= layer.clip[1] * 1.0001
            assert after.low[layer.name].min() >= layer.clip[0] * 1.0001


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_an_equalized_network_has_the_same_integers_in_both_engines(network) -> None:
    graph, params = network
    feeds = images(graph, 4)
    graph, params, peaks, _ = absorb_bias(graph, params, find_peaks(graph, params, [feeds]))
    graph, params, _ = equalize(
        graph, params, peaks, method="two_step", layer_scale=True, scalable=tables(graph)
    )
    session = FloatSession(graph, params, taps=[layer.name for layer in graph.layers])
    quantization = quantize(graph, params, collect(session, [feeds], image_bytes(graph)), Recipe())
    expected = NumpySession(graph, params, quantization).run(feeds)
    found = IntegerOrtSession(graph, params, quantization).run(feeds)
    assert all((expected[name] == found[name]).all() for name in expected)


def test_a_hard_swish_takes_up_powers_of_two_on_both_sides() -> None:
    """Peaks 8 and 1 before it become alike, as do those behind it: 8 and 2/3, of which the power of two below is 8."""
    kernel = np.diag([8.0, 1.0])
    graph, params = chain(kernel, np.array([[1.0, 1.0]]))
    swish = Activation(name="swish", inputs=("conv1",), shape=(2, 2, 2), function="hard_swish")
    head = dataclasses.replace(graph["conv2"], inputs=("swish",))
    first = dataclasses.replace(graph["conv1"], clip=(-math.inf, math.inf))
    graph = Graph("chain", (graph["input_layer1"], first, swish, head), ("conv2",))
    peaks = find_peaks(graph, params, [ones(2)])
    for scalable in ((), ("swish",)):
        other, changed, report = equalize(
            graph, params, peaks, method="one_step", layer_scale=False, scalable=scalable
        )
        assert report.scaled == (2 if scalable else 0)
    assert other["swish"].scaled
    np.testing.assert_array_equal(changed["swish"]["factor"], [1, 1 / 8])
    np.testing.assert_array_equal(changed["swish"]["gain"], [1, 8])
    np.testing.assert_array_equal(changed["conv1"]["kernel"][:, :, 0, 0], np.diag([8.0, 8.0]))
    np.testing.assert_array_equal(changed["conv2"]["kernel"][0, :, 0, 0], [1, 1 / 8])
    low, high = scaled_ends(other, changed)["conv1"]
    np.testing.assert_allclose(low[:, 0, 0], [-3, -24], rtol=1e-3)
    assert np.isposinf(high).all()


def test_leaky_relus_need_no_powers_of_two() -> None:
    graph, params = chain(np.diag([8.0, 1.0]), np.array([[1.0, 1.0]]))
    leaky = Activation(
        name="leaky", inputs=("conv1",), shape=(2, 2, 2), function="leaky_relu", constants=(0.1,)
    )
    first = dataclasses.replace(graph["conv1"], clip=(-math.inf, math.inf))
    head = dataclasses.replace(graph["conv2"], inputs=("leaky",))
    graph = Graph("chain", (graph["input_layer1"], first, leaky, head), ("conv2",))
    params["conv1"]["kernel"] *= np.float32(0.7)
    params["conv1"]["kernel"][1] *= np.float32(0.7)
    peaks = find_peaks(graph, params, [ones(2)])
    other, changed, _ = equalize(
        graph, params, peaks, method="one_step", layer_scale=False, scalable=("leaky",)
    )
    assert other["leaky"] == leaky
    assert changed["conv1"]["kernel"][1, 1, 0, 0] == pytest.approx(0.7 * 8)


def chain(first: np.ndarray, second: np.ndarray, clip=(0.0, math.inf)) -> tuple[Graph, dict]:
    """Two 1x1 convolutions with these kernels [O, I] and no bias."""
    layers = (
        Input(name="input_layer1", inputs=(), shape=(first.shape[1], 2, 2)),
        Conv(
            name="conv1", inputs=("input_layer1",), shape=(len(first), 2, 2), kernel_shape=(1, 1), clip=clip
        ),
        Conv(name="conv2", inputs=("conv1",), shape=(len(second), 2, 2), kernel_shape=(1, 1)),
    )
    params = {
        name: {
            "kernel": np.asarray(kernel, np.float32)[:, :, None, None],
            "bias": np.zeros(len(kernel), np.float32),
        }
        for name, kernel in (("conv1", first), ("conv2", second))
    }
    return Graph("chain", layers, ("conv2",)), params


def ones(count: int = 1) -> dict[str, np.ndarray]:
    return {"input_layer1": np.ones((1, count, 2, 2), np.float32)}


def kernels(params, name: str) -> list[float]:
    return params[name]["kernel"].reshape(-1).tolist()


def test_one_step_raises_weak_channels_up_to_the_largest() -> None:
    graph, params = chain(np.array([[8.0], [2.0], [0.1]]), np.ones((1, 3)))
    peaks = find_peaks(graph, params, [ones()])
    _, scaled, report = equalize(graph, params, peaks, method="one_step", layer_scale=True)
    assert kernels(scaled, "conv1") == pytest.approx([8.0, 8.0, 1.6])  # 0.1 only by the cap of 16
    assert kernels(scaled, "conv2") == pytest.approx([1.0, 0.25, 1 / 16])
    assert (report.scaled, report.largest, report.layers) == (2, 16.0, ("conv1",))


def test_two_step_lowers_the_dominant_channel_whose_consumer_has_room() -> None:
    graph, params = chain(np.array([[8.0], [2.0]]), np.array([[0.25, 1.0]]))
    peaks = find_peaks(graph, params, [ones()])
    _, scaled, report = equalize(graph, params, peaks, method="two_step", layer_scale=True)
    assert kernels(scaled, "conv1") == pytest.approx(
        [2.0, 2.0]
    )  # conv2 reads channel 0 with a quarter of its largest
    assert kernels(scaled, "conv2") == pytest.approx([1.0, 1.0])
    assert report.smallest == pytest.approx(0.25)


def test_dfq_makes_ranges_of_producer_and_consumer_equal() -> None:
    graph, params = chain(np.array([[8.0], [1.0]]), np.array([[0.5, 1.0]]))
    peaks = find_peaks(graph, params, [ones()])
    _, scaled, _ = equalize(graph, params, peaks, method="dfq", layer_scale=True)
    first, second = np.array(kernels(scaled, "conv1")), np.array(kernels(scaled, "conv2"))
    assert first / first.max() == pytest.approx(second / second.max(), rel=0.02)


def test_a_relu6_channel_grows_up_to_its_cap_and_one_that_reaches_it_stays() -> None:
    graph, params = chain(np.array([[9.0], [2.0]]), np.ones((1, 2)), clip=(0.0, 6.0))
    peaks = find_peaks(graph, params, [ones()])
    other, scaled, _ = equalize(graph, params, peaks, method="one_step", layer_scale=False)
    assert kernels(scaled, "conv1") == pytest.approx([9.0, 6.0])
    assert scaled["conv1"]["clip_high"].tolist() == pytest.approx([6.0, 18.0])
    assert other["conv1"].clip == (0.0, 6.0) and other["conv1"].clip_by_channel


def test_depthwise_layers_pass_a_factor_for_every_channel() -> None:
    builder = Builder(0, channels=2)
    builder.conv(builder.conv(builder.conv(builder.last, 4), 4, 3, groups=4), 4)
    graph, params = builder.finish()
    peaks = find_peaks(graph, params, [images(graph)])
    _, _, report = equalize(graph, params, peaks, method="one_step", layer_scale=False)
    assert set(report.layers) >= {"conv1", "conv2"}
    channels = channel_classes(graph, "scale")
    assert not set(channels.of_outputs(graph, graph["conv1"])) & set(
        channels.of_outputs(graph, graph["conv2"])
    )


def test_channels_that_lie_beside_others_grow_to_the_largest_of_the_scale_they_share() -> None:
    """A concatenation gives both halves one scale: the quiet half is loud enough only beside its own channels."""
    layers = (
        Input(name="input_layer1", inputs=(), shape=(1, 2, 2)),
        *(
            Conv(name=name, inputs=("input_layer1",), shape=(1, 2, 2), kernel_shape=(1, 1))
            for name in ("conv1", "conv2")
        ),
        Concat(name="concat1", inputs=("conv1", "conv2"), shape=(2, 2, 2), axis=0),
        Conv(name="conv3", inputs=("concat1",), shape=(1, 2, 2), kernel_shape=(1, 1)),
    )
    weights = {"conv1": np.array([[8.0]]), "conv2": np.array([[2.0]]), "conv3": np.ones((1, 2))}
    params = {
        name: {
            "kernel": kernel.astype(np.float32)[:, :, None, None],
            "bias": np.zeros(len(kernel), np.float32),
        }
        for name, kernel in weights.items()
    }
    graph = Graph("beside", layers, ("conv3",))
    peaks = find_peaks(graph, params, [ones()])
    other, scaled, report = equalize(graph, params, peaks, method="one_step", layer_scale=False)
    assert kernels(scaled, "conv1") == pytest.approx([8.0])
    assert kernels(scaled, "conv2") == pytest.approx([8.0])
    assert kernels(scaled, "conv3") == pytest.approx([1.0, 0.25])
    assert (report.scaled, report.bundles) == (1, 1)
    assert output_db(graph, params, other, scaled, images(graph)) > 100


def test_summands_share_their_factors_and_gates_keep_theirs() -> None:
    builder = Builder(0)
    first = builder.conv(builder.last, 4)
    second = builder.conv(first, 4)
    step(builder, "add", builder.layers.index(first) - 1, (0.0, math.inf))
    step(builder, "gate", 0, (0.0, math.inf))
    graph, _ = builder.finish()
    channels = channel_classes(graph, "scale")
    added = next(layer for layer in graph.layers if layer.kind == "add")
    assert (channels.classes[added.name] == channels.classes[second.name]).all()
    sigmoid = next(layer for layer in graph.layers if layer.kind == "activation")
    assert channels.fixed[channels.classes[sigmoid.name]].all()
    gated = next(layer for layer in graph.layers if layer.kind == "mul")
    assert (channels.classes[gated.name] == channels.classes[added.name]).all()


def test_layers_and_tensors_to_keep_are_left_alone() -> None:
    graph, params = chain(np.array([[8.0], [1.0]]), np.ones((1, 2)))
    peaks = find_peaks(graph, params, [ones()])
    for options in ({"layers": ["conv2"]}, {"keep": ["conv1"]}):
        _, scaled, report = equalize(graph, params, peaks, method="one_step", layer_scale=True, **options)
        assert report.scaled == 0
        assert scaled["conv1"] is params["conv1"]


def test_what_is_always_there_moves_into_the_next_bias() -> None:
    graph, params = chain(np.array([[1.0], [1.0]]), np.array([[3.0, 1.0]]))
    params["conv1"]["bias"] = np.array([2.0, 0.0], np.float32)
    feeds = {"input_layer1": np.linspace(0, 1, 4, dtype=np.float32).reshape(1, 1, 2, 2)}
    peaks = find_peaks(graph, params, [feeds])
    other, changed, after, report = absorb_bias(graph, params, peaks)
    assert report.layers == {"conv1": 1}
    assert changed["conv1"]["bias"].tolist() == [0.0, 0.0]
    assert changed["conv2"]["bias"].tolist() == [6.0]
    assert after.high["conv1"].max() == 1.0
    below = {"input_layer1": np.full((1, 1, 2, 2), -1.5, np.float32)}  # where the ReLU does clip after all
    assert output_db(graph, params, other, changed, below) > 100


def test_a_padded_reader_absorbs_nothing() -> None:
    builder = Builder(0)
    builder.conv(builder.conv(builder.last, 2), 2, 3)
    graph, params = builder.finish()
    params["conv1"]["bias"] += 100
    _, _, _, report = absorb_bias(graph, params, find_peaks(graph, params, [images(graph)]))
    assert "conv1" not in report.layers


def test_a_dense_layer_over_a_flattened_map_takes_a_factor_by_channel() -> None:
    layers = (
        Input(name="input_layer1", inputs=(), shape=(1, 2, 2)),
        Conv(
            name="conv1", inputs=("input_layer1",), shape=(2, 2, 2), kernel_shape=(1, 1), clip=(0.0, math.inf)
        ),
        Reshape(name="reshape1", inputs=("conv1",), shape=(8,)),
        Dense(name="fc1", inputs=("reshape1",), shape=(3,)),
    )
    rng = np.random.default_rng(0)
    graph = Graph("flat", layers, ("fc1",))
    params = {
        "conv1": {
            "kernel": np.array([4, 1], np.float32).reshape(2, 1, 1, 1),
            "bias": np.zeros(2, np.float32),
        },
        "fc1": {"kernel": rng.normal(size=(3, 8)).astype(np.float32), "bias": np.zeros(3, np.float32)},
    }
    peaks = find_peaks(graph, params, [ones()])
    other, scaled, report = equalize(graph, params, peaks, method="one_step", layer_scale=True)
    assert report.largest == 4.0
    assert output_db(graph, params, other, scaled, images(graph)) > 100
    assert scaled["fc1"]["kernel"][:, 4:] == pytest.approx(params["fc1"]["kernel"][:, 4:] / 4)

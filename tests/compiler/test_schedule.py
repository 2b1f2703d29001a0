"""Clusters, contexts, line buffers and estimates on cases that are worked out by hand in the comments."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.compiler.random_graphs import graphs, with_bits

from mz import zoo
from mz.compiler.clusters import busiest, share_clusters
from mz.compiler.cycles import cluster_cycles, padded_macs, work
from mz.compiler.device import FILLINGS, fastest
from mz.compiler.estimate import estimate
from mz.compiler.latency import image_cycles
from mz.compiler.schedule import line_buffers, schedule, subgraph
from mz.graph import (
    Activation,
    Add,
    AvgPool,
    Conv,
    Dense,
    GlobalAvgPool,
    Graph,
    Input,
    Layer,
    MaxPool,
    Mul,
    Reshape,
    Resize,
    WeightQuant,
)
from mz.zoo.schema import HwArch, LayerLimits, Memory

RATES = {f"a{a}_w{w}": 10.0 for a in (4, 8, 16) for w in (4, 8, 16)} | {"a8_w4": 20.0}
TOY = HwArch(
    name="toy",
    activation_bits=(4, 8, 16),
    weight_bits=(4, 8, 16),
    weight_scale="per_channel",
    default_precision="a8_w8",
    execution="dataflow",
    clock_mhz=1.0,  # a million cycles a second
    clusters=4,
    macs_per_cycle=RATES,
    values_per_cycle=2.0,
    memory=Memory(on_chip_bytes=10_000, external_bytes_per_second=1e6),  # a byte a cycle
    emit=("onnx",),
)
SERIAL = msgspec.structs.replace(TOY, execution="sequential", clusters=1)


def conv(name: str, shape: tuple[int, int, int], source: str, kernel: int = 1, **fields) -> Conv:
    pad = kernel // 2
    return Conv(
        name=name,
        inputs=(source,),
        shape=shape,
        kernel_shape=(kernel, kernel),
        pads=(pad, pad, pad, pad),
        **fields,
    )


def network(
    *layers: Layer, outputs: tuple[str, ...], bits: dict[str, int] | None = None, weight_bits: int = 8
):
    quantization = with_bits(dict.fromkeys((one.name for one in layers), 8) | (bits or {}))
    for one in layers:
        if isinstance(one, Conv | Dense):
            nothing = np.zeros(0, np.int8)
            quantization.weights[one.name] = WeightQuant(nothing, nothing, nothing, weight_bits)
    return Graph("toy", layers, outputs), quantization


X = Input(name="x", inputs=(), shape=(2, 10, 10))


def test_cycles_by_hand():
    graph, quantization = network(
        X,
        conv("a", (4, 10, 10), "x", 3),  # 100 pixels x 4 x 2 x 9 = 7200 MACs at 10
        conv("dw", (4, 10, 10), "a", 3, groups=4),  # 100 x 4 x 9 = 3600
        Activation(name="t", inputs=("dw",), shape=(4, 10, 10), function="sigmoid"),  # 400 values at 2
        Add(name="s", inputs=("t", "a"), shape=(4, 10, 10)),  # 800 values read
        MaxPool(name="m", inputs=("s",), shape=(4, 5, 5), kernel_shape=(2, 2), strides=(2, 2)),  # 100 x 4
        AvgPool(name="v", inputs=("m",), shape=(4, 3, 3), kernel_shape=(3, 3)),  # 36 x 9 = 324
        Resize(name="r", inputs=("v",), shape=(4, 6, 6), mode="bilinear", scales=(2.0, 2.0)),  # 144 x 4
        GlobalAvgPool(name="g", inputs=("r",), shape=(4, 1, 1)),  # 144 read
        Reshape(name="f", inputs=("g",), shape=(4,)),
        Dense(name="d", inputs=("f",), shape=(3,)),  # 12 MACs: 2 cycles, rounded up
        outputs=("d",),
    )
    wanted = {
        "x": 0,
        "a": 720,
        "dw": 360,
        "t": 200,
        "s": 400,
        "m": 200,
        "v": 162,
        "r": 288,
        "g": 72,
        "f": 0,
        "d": 2,
    }
    assert cluster_cycles(TOY, graph, quantization) == wanted
    slow = msgspec.structs.replace(TOY, layers={"depthwise": LayerLimits(speed=0.25)})
    assert cluster_cycles(slow, graph, quantization) == wanted | {"dw": 1440}
    assert work(graph, graph["s"]) == 800


@pytest.mark.parametrize(
    ("channels", "groups", "kernel", "out", "macs"),
    [
        (3, 1, 3, 5, 16 * 32 * 8),  # 27 products take 32 lanes, 5 channels 8
        (3, 1, 1, 8, 16 * 8 * 8),  # 3 products take 8
        (3, 3, 3, 3, 16 * 16 * 8),  # depthwise: 9 products take 16, three channels 8
        (6, 3, 1, 6, 16 * 8 * 8 * 3),  # 2 products for 2 channels, in each of three groups
    ],
)
def test_idle_lanes_are_paid_for(channels: int, groups: int, kernel: int, out: int, macs: int):
    image = Input(name="x", inputs=(), shape=(channels, 4, 4))
    graph = Graph("g", (image, conv("a", (out, 4, 4), "x", kernel, groups=groups)), ("a",))
    wide = msgspec.structs.replace(TOY, lanes=(8, 8))
    assert padded_macs(wide, graph, graph["a"]) == macs
    assert padded_macs(TOY, graph, graph["a"]) == graph.macs(graph["a"])


def test_fewer_bits_are_faster():
    layers = (X, conv("a", (4, 10, 10), "x", 3))
    assert cluster_cycles(TOY, *network(*layers, outputs=("a",), weight_bits=4))["a"] == 360
    wide = network(*layers, outputs=("a",), weight_bits=4, bits={"a": 16})  # the input's bits count
    assert cluster_cycles(TOY, *wide)["a"] == 360
    assert cluster_cycles(TOY, *network(*layers, outputs=("a",), weight_bits=4, bits={"x": 16}))["a"] == 720


@pytest.mark.parametrize(
    ("cycles", "clusters", "interval", "numbers"),
    [
        ({"a": 300, "b": 100}, 4, 100, {"a": 3, "b": 1}),  # in proportion
        ({"a": 100, "b": 100, "c": 100}, 4, 100, {"a": 1, "b": 1, "c": 1}),  # a fourth helps none of them
        ({"a": 90, "b": 10, "c": 20, "d": 60}, 2, 90, {"a": 1, "b": 1, "c": 1, "d": 1}),  # three share one
        ({"a": 7}, 4, 2, {"a": 4}),  # 7 / 4, rounded up
        ({"a": 0, "b": 5}, 4, 2, {"b": 3}),
        ({}, 4, 0, {}),
    ],
)
def test_clusters_by_hand(cycles, clusters: int, interval: int, numbers):
    found, sharing = share_clusters(cycles, clusters)
    assert found == interval
    assert {name: len(own) for name, own in sharing.items()} == numbers


@given(st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 1000), max_size=10), st.integers(1, 8))
def test_clusters_suffice_and_the_interval_is_what_the_busiest_needs(cycles: dict[str, int], clusters: int):
    interval, sharing = share_clusters(cycles, clusters)
    assert all(0 <= number < clusters for own in sharing.values() for number in own)
    assert set(sharing) == {name for name, count in cycles.items() if count}
    assert interval == busiest(cycles, sharing)
    total = sum(cycles.values())
    least = max(-(-total // clusters), 0)
    assert least <= interval <= total
    assert share_clusters(cycles, clusters + 1)[0] <= interval + max(cycles.values(), default=0) // clusters


def chain(bits: dict[str, int] | None = None):
    """a: 2 -> 4 channels, 3x3, 720 cycles; b: 4 -> 1, 1x1, 400 MACs, 40 cycles."""
    return network(X, conv("a", (4, 10, 10), "x", 3), conv("b", (1, 10, 10), "a"), outputs=("b",), bits=bits)


def test_line_buffers_by_hand():
    graph, quantization = chain()
    # three rows of 2 x 10, one row of 4 x 10
    assert line_buffers(graph, quantization) == {"x": 0, "a": 60, "b": 40}
    assert line_buffers(*chain({"x": 4, "a": 16})) == {"x": 0, "a": 30, "b": 80}


def test_one_context_by_hand():
    """720 and 40 cycles on 4 clusters: three for a (240 each), one for b. a's first row needs two of x."""
    graph, quantization = chain()
    plan = schedule(TOY, graph, quantization, {"a": 100, "b": 10}, ("x", "a", "b"))
    (context,) = plan.contexts
    assert context.layers == ("a", "b") and context.reads == ("x",) and context.writes == ("b",)
    assert {name: len(own) for name, own in context.clusters.items()} == {"a": 3, "b": 1}
    assert (context.interval, context.constant_bytes, context.buffer_bytes) == (240, 110, 100)
    # two rows of x, 20 cycles each; ten rows of a, 240 / 10 each; one of b, 40 / 10
    assert context.latency == 2 * 20 + 10 * 24 + 4
    found = estimate(TOY, graph, quantization, plan, {"a": 100, "b": 10})
    # 200 bytes in, 100 out, a byte a cycle: 300 cycles are more than 240
    assert found["contexts"][0]["bound"] == "bandwidth"
    assert (found["cycles"], found["fps"], found["latency_ms"]) == (300, 3333.3, 0.3)
    fast = msgspec.structs.replace(TOY, memory=Memory(on_chip_bytes=10_000, external_bytes_per_second=1e9))
    plan = schedule(fast, graph, quantization, {"a": 100, "b": 10}, ("x", "a", "b"))
    found = estimate(fast, graph, quantization, plan, {"a": 100, "b": 10})
    assert found["contexts"][0]["bound"] == "compute"
    # the image is there in a cycle, so that only 240 + 4 remain, rounded up
    assert (found["cycles"], found["fps"], found["latency_ms"]) == (245, 4166.7, 0.245)
    assert found["fps"] == found["fps_batch"]
    assert found["utilization"] == pytest.approx(7600 / (240 * 4 * 10), rel=1e-4)
    assert found["bottlenecks"] == ["a", "b"]
    assert [(layer["name"], layer["cycles"], layer["utilization"]) for layer in found["layers"]] == [
        ("a", 240, 1.0), ("b", 40, pytest.approx(400 / (10 * 240), rel=1e-4)),
    ]  # fmt: skip
    json.dumps(found), json.dumps(plan.to_dict())


def test_latency_waits_for_whole_maps_and_slow_branches():
    """A mean needs the whole map, so nothing of the product is there before; a resize gives two rows for each."""
    graph, _ = network(
        X,
        GlobalAvgPool(name="g", inputs=("x",), shape=(2, 1, 1)),
        Mul(name="p", inputs=("x", "g"), shape=(2, 10, 10)),
        MaxPool(name="m", inputs=("p",), shape=(2, 5, 10), kernel_shape=(2, 1), strides=(2, 1)),
        Resize(name="r", inputs=("m",), shape=(2, 10, 10), mode="nearest", scales=(2.0, 1.0)),
        outputs=("r",),
    )
    # x at 100; g 7 later; ten rows of p of 5; a row of m, of 3, after the last; the last two rows of r, of 2
    assert image_cycles(graph, {"g": 7, "p": 50, "m": 15, "r": 20}, {"x": 100}) == 100 + 7 + 50 + 3 + 2 + 2
    # if p waits for nothing but its row, the last row of x decides
    direct = graph.replace({"p": Activation(name="p", inputs=("x",), shape=(2, 10, 10), function="abs")})
    assert image_cycles(direct, {"g": 7, "p": 50, "m": 15, "r": 20}, {"x": 100}) == 100 + 5 + 3 + 2 + 2


def test_contexts_when_constants_exceed_the_chip():
    """10,000 bytes on chip: a with 9,000 and b with 5,000 cannot be there together, so a's output goes outside."""
    graph, quantization = chain()
    held = {"a": 9_000, "b": 5_000}
    plan = schedule(TOY, graph, quantization, held, ("x", "a", "b"))
    first, second = plan.contexts
    assert (first.layers, first.reads, first.writes) == (("a",), ("x",), ("a",))
    assert (second.layers, second.reads, second.writes) == (("b",), ("a",), ("b",))
    assert (first.interval, second.interval) == (180, 10)  # each has all four clusters
    found = estimate(TOY, graph, quantization, plan, held)
    loads = found["contexts"]
    assert [load["load_cycles"] for load in loads] == [9_000, 5_000]
    assert [load["interval_cycles"] for load in loads] == [600, 500]  # 200 + 400 and 400 + 100 bytes
    assert [load["latency_cycles"] for load in loads] == [600, 500]
    assert found["cycles"] == 15_100 and found["fps"] == pytest.approx(1e6 / 15_100, rel=1e-4)
    assert found["fps_batch"] == pytest.approx(8e6 / (14_000 + 8 * 1_100), rel=1e-4)


def test_smaller_contexts_where_they_are_quicker():
    """Alone, each layer has all four clusters, and takes a quarter of the time that it takes beside others."""
    layers = [X]
    for place in range(6):
        layers.append(conv(f"c{place}", (2, 10, 10), layers[-1].name, 3))
    graph, quantization = network(*layers, outputs=("c5",))
    order = [one.name for one in layers]
    held = dict.fromkeys(order[1:], 2_000)
    wide = msgspec.structs.replace(TOY, memory=Memory(on_chip_bytes=10_000, external_bytes_per_second=1e9))
    plan, found = fastest(wide, graph, quantization, held, order)
    tried = [
        estimate(wide, graph, quantization, one, held)["cycles"]
        for one in (schedule(wide, graph, quantization, held, order, filling) for filling in FILLINGS)
    ]
    assert found["cycles"] == min(tried) < tried[0]
    assert len(plan.contexts) > len(schedule(wide, graph, quantization, held, order).contexts)
    # what fits at once stays together, whatever single images would gain
    alone, _ = fastest(wide, graph, quantization, dict.fromkeys(order[1:], 10), order)
    assert len(alone.contexts) == 1


def test_a_layer_that_does_not_fit_streams_its_constants():
    graph, quantization = chain()
    held = {"a": 20_000, "b": 10}
    plan = schedule(TOY, graph, quantization, held, ("x", "a", "b"))
    assert [context.fits for context in plan.contexts] == [False, True]
    found = estimate(TOY, graph, quantization, plan, held)["contexts"]
    assert found[0]["load_cycles"] == 0
    assert (
        found[0]["interval_cycles"] == 20_000 + 200 + 400 + 60 * 10
    )  # constants, x, a, three rows for each of ten


def test_a_branch_is_kept_until_the_other_comes():
    """The sum waits for the 3x3 convolution's lag of one row, so one more row of x is kept for it."""
    graph, quantization = network(
        X, conv("a", (2, 10, 10), "x", 3), Add(name="s", inputs=("x", "a"), shape=(2, 10, 10)), outputs=("s",)
    )
    assert line_buffers(graph, quantization)["s"] == 2 * 20 + 20


def test_layer_after_layer_by_hand():
    graph, quantization = chain()
    held = {"a": 100, "b": 1_000}
    plan = schedule(SERIAL, graph, quantization, held, ("x", "a", "b"))
    found = estimate(SERIAL, graph, quantization, plan, held)
    # a computes 720 cycles; b would compute 40, and reads its constants for 1,000
    assert [(layer["cycles"], layer["bound"]) for layer in found["layers"]] == [
        (720, "compute"),
        (1000, "bandwidth"),
    ]
    assert (found["cycles"], found["latency_ms"], found["bottlenecks"]) == (1720, 1.72, ["b", "a"])
    assert found["fps"] == found["fps_batch"] == pytest.approx(1e6 / 1720, rel=1e-4)
    assert plan.order == ("x", "a", "b")


def test_part_of_a_graph():
    graph, _ = network(
        X, conv("a", (2, 10, 10), "x"), conv("b", (2, 10, 10), "a"),
        Add(name="s", inputs=("a", "b"), shape=(2, 10, 10)), outputs=("b", "s"),
    )  # fmt: skip
    part = subgraph(graph, [graph["b"]])
    assert [one.name for one in part.inputs] == ["a"] and part.outputs == ("b",)
    part = subgraph(graph, [graph["a"], graph["b"]])
    assert part.outputs == ("a", "b")


@given(graphs(), st.sampled_from((64, 300, 5_000)))
def test_every_layer_is_in_one_context_and_every_context_fits(network, room: int):
    graph, quantization = network
    for one in graph.layers:
        if isinstance(one, Dense):
            nothing = np.zeros(0, np.int8)
            quantization.weights[one.name] = WeightQuant(nothing, nothing, nothing, 8)
    arch = msgspec.structs.replace(TOY, memory=Memory(on_chip_bytes=room, external_bytes_per_second=1e6))
    held = {one.name: 40 for one in graph.layers if isinstance(one, Dense)}
    plan = schedule(arch, graph, quantization, held, tuple(one.name for one in graph.layers))
    placed = [name for context in plan.contexts for name in context.layers]
    assert placed == [one.name for one in graph.layers if not isinstance(one, Input)]
    for context in plan.contexts:
        size = context.constant_bytes + context.buffer_bytes
        assert size <= room if context.fits else (size > room and len(context.layers) == 1)
    found = estimate(arch, graph, quantization, plan, held)
    assert 0 <= found["utilization"] <= 1.01
    assert all(0 <= layer["utilization"] <= 1.01 for layer in found["layers"])


@pytest.mark.parametrize("name", zoo.hw_arch_names())
def test_the_arithmetic_of_the_zoos_targets(name: str):
    arch = zoo.load_hw_arch(name)
    assert set(arch.macs_per_cycle) == {f"a{a}_w{w}" for a in arch.activation_bits for w in arch.weight_bits}
    assert arch.description

"""Whole graphs from statistics to integers: shared scales, exact products, even zero points, bits."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.quantize.networks import statistics_of, uniform_statistics

from mz.emulator import is_wide, layer_constants, numerics
from mz.errors import UserError
from mz.graph import (
    Activation,
    Add,
    Concat,
    Dense,
    Graph,
    Input,
    MaxPool,
    Mul,
    Pad,
    Precision,
    Quantization,
    Reshape,
    Softmax,
    Sub,
)
from mz.quantize import ActivationRange, Recipe, activation_quants, quantize

SHAPE = (2, 4, 4)
LIMITS = st.tuples(st.floats(-50, 0), st.floats(0.01, 50))


def layer(cls, name: str, *inputs: str, **fields):
    return cls(name=name, inputs=inputs, shape=fields.pop("shape", SHAPE), **fields)


def quants(graph: Graph, bounds, recipe: Recipe | None = None):
    recipe = recipe or Recipe(activation_range=MIN_MAX)
    return activation_quants(graph, uniform_statistics(bounds), recipe)


MIN_MAX = ActivationRange("min_max")
PRODUCTS = Graph(
    "products",
    (
        layer(Input, "a"),
        layer(Input, "b"),
        layer(Mul, "m1", "a", "b"),
        layer(Mul, "m2", "b", "b"),
        layer(Concat, "both", "m1", "m2", shape=(4, 4, 4)),
        layer(Mul, "m3", "m1", "a"),
        layer(Sub, "last", "m3", "b"),
    ),
    ("both", "last"),
)


def exactness(graph: Graph, tensors, name: str) -> float:
    """Relative error of the fixed-point ratio of one product."""
    a, b = (tensors[source] for source in graph[name].inputs)
    wide = is_wide(graph[name], Quantization(tensors=tensors))
    ratio = numerics.product_ratio(a.scale, b.scale, tensors[name].scale, wide)
    real = float(a.scale) * float(b.scale) / float(tensors[name].scale)
    return abs(ratio.factor / 2**ratio.shift / real - 1)


@given(
    st.fixed_dictionaries(dict.fromkeys(("a", "b", "m1", "m2", "m3", "last"), LIMITS)),
    st.sampled_from([4, 8, 16]),
)
@settings(max_examples=40)
def test_products_are_exact_and_cost_little_range(bounds, bits):
    recipe = Recipe(Precision(bits, 8), activation_range=MIN_MAX)
    tensors = quants(PRODUCTS, bounds, recipe)
    assert tensors["m1"] == tensors["m2"] == tensors["both"]
    for name in ("m1", "m3"):  # m2 shares the group that m1 decides
        a, b = (float(tensors[source].scale) for source in PRODUCTS[name].inputs)
        faint = a * b / float(tensors[name].scale) < 2**-9
        assert faint or exactness(PRODUCTS, tensors, name) < 2**-22
    for name in ("m1", "m2", "m3", "last"):
        t = tensors[name]
        assert t.zero_point % 2 == 0
        low, high = (2 * value if bits > 8 else value for value in bounds[name])
        # A zero point at the end leaves out up to half a step.
        assert t.real_range[0] - 0.51 * float(t.scale) <= low and high <= t.real_range[1] + 0.51 * float(
            t.scale
        )


def test_a_product_is_exact_although_a_later_one_widens_its_factor():
    """m1 reads `x`, whose group m2 decides; the layers' order would fix m1 first and then move its factor."""
    graph = Graph(
        "late",
        (
            layer(Input, "x"),
            layer(Input, "b"),
            layer(Mul, "m1", "x", "b"),
            layer(Mul, "m2", "b", "b"),
            layer(Concat, "c", "x", "m2", shape=(4, 4, 4)),
        ),
        ("m1", "c"),
    )
    tensors = quants(graph, {"x": (-1, 3), "b": (-1.3, 2), "m1": (-2, 5), "m2": (0, 3.7)})
    assert exactness(graph, tensors, "m1") < 2**-22
    assert exactness(graph, tensors, "m2") < 2**-22


def test_products_in_a_circle_end_and_hold_their_ranges():
    graph = Graph(
        "circle",
        (
            layer(Input, "a"),
            layer(Input, "b"),
            layer(Mul, "ma", "b", "b"),
            layer(Mul, "mb", "a", "a"),
            layer(Concat, "ca", "a", "ma", shape=(4, 4, 4)),
            layer(Concat, "cb", "b", "mb", shape=(4, 4, 4)),
            layer(Mul, "own", "ca", "ca", shape=(4, 4, 4)),
            layer(Concat, "co", "ca", "own", shape=(8, 4, 4)),
        ),
        ("co", "cb"),
    )
    tensors = quants(graph, {"a": (0, 1), "b": (0, 1.5), "ma": (0, 2.25), "mb": (0, 1), "own": (0, 2)})
    assert 2.25 / 255 <= tensors["a"].scale * (1 + 1e-6) <= 2.25 / 253 * 1.01
    assert 1.5 / 255 <= tensors["b"].scale * (1 + 1e-6) <= 1.5 / 253 * 1.01


@pytest.mark.parametrize("loud", [3e-4, 2.1e-3, 4e-3, 1.0, 1000.0])
def test_a_faint_product_leaves_the_range_of_a_loud_neighbour(loud):
    graph = Graph(
        "faint",
        (
            layer(Input, "a"),
            layer(Input, "b"),
            layer(Input, "loud"),
            layer(Mul, "m", "a", "b"),
            layer(Concat, "c", "m", "loud", shape=(4, 4, 4)),
        ),
        ("c",),
    )
    tensors = quants(graph, {"a": (0, 0.01), "b": (0, 0.01), "m": (0, 1e-4), "loud": (0, loud)})
    np.testing.assert_allclose(tensors["c"].real_range[1], loud, rtol=1 / 100)
    layer_constants(graph, graph["m"], {}, Quantization(tensors=tensors))


def test_a_group_takes_the_most_bits_and_the_widest_range_of_its_makers():
    graph = Graph(
        "group",
        (
            layer(Input, "a"),
            layer(Activation, "t", "a", function="tanh"),
            layer(MaxPool, "p", "t", kernel_shape=(1, 1)),
            layer(Concat, "c", "a", "p", shape=(4, 4, 4)),
            layer(Reshape, "r", "c", shape=(64,)),
        ),
        ("r",),
    )
    bounds = {"a": (-3.0, 1.0), "t": (-1.0, 2.0)}
    tensors = quants(graph, bounds)
    assert len(set(tensors.values())) == 1
    low, high = tensors["r"].real_range
    assert low <= -3 * (1 - 1e-6) and high >= 2 * (1 - 1e-6) and high - low < 5.1
    recipe = Recipe(layer_precisions={"p": Precision(16, 8), "a": Precision(4, 8)}, activation_range=MIN_MAX)
    assert {t.bits for t in quants(graph, bounds, recipe).values()} == {16}


def test_a_range_holds_what_is_put_around_its_tensors():
    around = layer(Pad, "p", "a", pads=(1, 0, 0, 0), values=(0.0, -7.0, 2.0, 9.0), shape=(4, 5, 4))
    graph = Graph("padded", (layer(Input, "a"), around), ("p",))
    low, high = quants(graph, {"a": (-3.0, 1.0)})["a"].real_range
    assert low <= -7 * (1 - 1e-2) and high >= 9 * (1 - 1e-2)


def test_a_power_that_divides_ends_beside_its_pole_unless_it_shares_an_earlier_tensors_scale():
    power = {"function": "power", "constants": (-1.0, 0.0)}
    graph = Graph(
        "poles",
        (
            layer(Input, "a"),
            layer(Activation, "p", "a", **power),
            layer(Activation, "b", "p", function="softplus"),
            layer(Activation, "q", "b", **power),
            layer(Concat, "c", "p", "q", shape=(4, 4, 4)),
            layer(Activation, "alone", "b", **power),
        ),
        ("c", "alone"),
    )
    bounds = {"a": (0.0, 2.55), "p": (0.0, 1e12), "b": (0.0, 5.1), "q": (0.0, 1e12), "alone": (0.0, 1e12)}
    tensors = quants(graph, bounds, Recipe(activation_range=MIN_MAX))
    np.testing.assert_allclose(tensors["alone"].real_range[1], 1 / 0.01, rtol=1e-3)
    np.testing.assert_allclose(tensors["c"].real_range[1], 1e12, rtol=1e-3)


def test_16_bits_get_headroom_but_not_beyond_a_clip():
    graph = Graph(
        "wide",
        (
            layer(Input, "x", shape=(4,)),
            layer(Dense, "free", "x", shape=(4,)),
            layer(Dense, "relu6", "x", shape=(4,), clip=(0.0, 6.0)),
            layer(Dense, "relu", "x", shape=(4,), clip=(0.0, math.inf)),
        ),
        ("free", "relu6", "relu"),
    )
    bounds = {"x": (-1.0, 1.0), "free": (-2.0, 3.0), "relu6": (0.0, 5.0), "relu": (0.0, 5.0)}
    tensors = quants(graph, bounds, Recipe(Precision(16, 8)))
    for name, wanted in {"x": (-2, 2), "free": (-4, 6), "relu6": (0, 6), "relu": (0, 10)}.items():
        np.testing.assert_allclose(tensors[name].real_range, wanted, atol=1e-3)
    manual = Recipe(Precision(16, 8), layer_ranges={"free": ActivationRange("manual", (-1.0, 1.0))})
    np.testing.assert_allclose(quants(graph, bounds, manual)["free"].real_range, (-1, 1), atol=1e-3)


def test_16_bits_reach_where_the_readers_function_becomes_constant():
    graph = Graph(
        "gates",
        (
            layer(Input, "near"),
            layer(Activation, "a", "near", function="hard_sigmoid", constants=(0.5, 0.5)),
            layer(Input, "far"),
            layer(Activation, "b", "far", function="hard_swish"),
        ),
        ("a", "b"),
    )
    bounds = {"near": (-0.4, 0.7), "a": (0.3, 0.85), "far": (-0.1, 2.0), "b": (-0.05, 1.7)}
    tensors = quants(graph, bounds, Recipe(Precision(16, 8)))
    np.testing.assert_allclose(tensors["near"].real_range, (-1, 1), atol=2e-3)
    np.testing.assert_allclose(tensors["far"].real_range, (-0.2, 4), atol=2e-3)


def test_a_range_ends_where_the_function_that_reads_it_does():
    graph = Graph(
        "seen",
        (
            layer(Input, "x"),
            layer(Activation, "a", "x", function="hard_swish"),
            layer(Activation, "b", "x", function="hard_swish"),
        ),
        ("a", "b"),
    )
    bounds = {"x": (-20.0, 10.0), "a": (-0.375, 10.0), "b": (-0.375, 10.0)}
    assert quants(graph, bounds)["x"].real_range == pytest.approx((-3, 10), abs=0.1)
    out = dataclasses.replace(graph, outputs=("x", "a", "b"))
    assert quants(out, bounds)["x"].real_range == pytest.approx((-20, 10), abs=0.1)
    other = graph.replace({"b": layer(Activation, "b", "x", function="tanh")})
    assert quants(other, bounds)["x"].real_range == pytest.approx((-20, 10), abs=0.1)
    pole = graph.replace(
        {name: layer(Activation, name, "x", function="power", constants=(-1.0,)) for name in "ab"}
    )
    assert quants(pole, bounds, Recipe())["x"] == quants(out, bounds, Recipe())["x"]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        (ActivationRange("manual", (-1.0, 2.0)), (-1, 2)),
        (ActivationRange("manual", (0.5, 2.0)), (0, 2)),
        (ActivationRange("percentile", (0.0, 100.0)), (-4, 4)),
        (ActivationRange("percentile", (25.0, 75.0)), (-2, 2)),
        (ActivationRange("min_max"), (-4, 4)),
    ],
)
def test_a_layer_may_have_a_range_of_its_own(how, wanted):
    graph = Graph("own", (layer(Input, "x"), layer(Activation, "t", "x", function="tanh")), ("t",))
    tensors = quants(graph, {"x": (-4.0, 4.0), "t": (-1.0, 1.0)}, Recipe(layer_ranges={"x": how}))
    np.testing.assert_allclose(tensors["x"].real_range, wanted, atol=0.04)
    np.testing.assert_allclose(tensors["t"].real_range, (-1, 1), atol=0.1)


def test_the_largest_values_of_what_leaves_the_accelerator_are_kept():
    graph = Graph(
        "scores",
        (
            layer(Input, "x"),
            layer(Activation, "inner", "x", function="abs"),
            layer(Activation, "also", "inner", function="abs"),
            layer(Reshape, "rows", "also", shape=(32,)),
            layer(Softmax, "shares", "rows", shape=(32,), host=True),
        ),
        ("shares", "inner"),
    )
    scores = statistics_of(np.concatenate([np.linspace(-1, 1, 100_000), [40.0]]))
    statistics = dict.fromkeys(("x", "inner", "also"), scores)

    def ranges(bits: int, **named: ActivationRange) -> dict[str, tuple[float, float]]:
        recipe = Recipe(Precision(bits, 8), activation_range=ActivationRange("l1_5"), layer_ranges=named)
        tensors = activation_quants(graph, statistics, recipe)
        assert tensors["rows"] == tensors["also"]
        return {name: quant.real_range for name, quant in tensors.items()}

    found = ranges(8)
    assert found["also"] == pytest.approx((-1, 40), abs=0.3)
    assert found["inner"][1] < 20, "a layer of the accelerator reads it too"
    assert ranges(4)["also"][1] < 20, "4 bits have to cut it"
    named = ranges(8, rows=ActivationRange("manual", (-2.0, 3.0)))
    assert named["also"] == pytest.approx((-2, 3), abs=0.1)


DENSE = Graph(
    "dense",
    (
        layer(Input, "x", shape=(3,)),
        layer(Dense, "fc1", "x", shape=(2,)),
        layer(Add, "y", "fc1", "fc1", shape=(2,)),
    ),
    ("y",),
)
PARAMS = {"fc1": {"kernel": np.array([[1, 2, 3], [-1, 0.5, 9]], np.float32), "bias": np.ones(2, np.float32)}}
BOUNDS = {"x": (-1.0, 1.0), "fc1": (-5.0, 5.0), "y": (-10.0, 10.0)}


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_quantize_gives_weights_what_the_recipe_says(bits):
    recipe = Recipe(layer_precisions={"fc1": Precision(8, bits)}, per_layer_weight_scale=bits == 4)
    found = quantize(DENSE, PARAMS, uniform_statistics(BOUNDS), recipe)
    assert found.weights["fc1"].bits == bits
    assert len(set(found.weights["fc1"].scale.tolist())) == (1 if bits == 4 else 2)
    for one in DENSE.layers[1:]:
        layer_constants(DENSE, one, PARAMS, found)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe(layer_precisions={"conv9": Precision()}), "dense has no layer named conv9"),
        (Recipe(layer_ranges={"fc2": MIN_MAX}), "no layer named fc2"),
        (Recipe(layer_weight_search={"fc2": True}), "no layer named fc2"),
        (Recipe(layer_ranges={"fc1": ActivationRange("manual", (2.0, -1.0))}), "layer fc1: the range"),
        (Recipe(layer_ranges={"fc1": ActivationRange("manual", (0.0, 1e39))}), "layer fc1: the range"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(recipe, message):
    with pytest.raises(UserError, match=message):
        quantize(DENSE, PARAMS, uniform_statistics(BOUNDS), recipe)


def test_the_stored_recipe_names_every_layer_with_a_precision_of_its_own():
    recipe = Recipe(layer_precisions={"y": Precision(16, 8), "fc1": Precision(8, 4), "x": Precision()})
    assert recipe.to_dict(DENSE)["layer_precisions"] == {"fc1": "a8_w4", "y": "a16_w8"}


@given(st.floats(2**-140, 2**100), st.sampled_from(["min_max", "mse", "entropy"]))
@example(1e-44, "mse")
@example(1e-44, "entropy")
@settings(max_examples=20)
def test_any_magnitude_gives_usable_scales(size, method):
    graph = Graph("tiny", (layer(Input, "x"), layer(Activation, "t", "x", function="abs")), ("t",))
    size = float(np.float32(size))
    tensors = quants(
        graph, {"x": (-size, size), "t": (0, size)}, Recipe(activation_range=ActivationRange(method))
    )
    for t in tensors.values():
        assert 0 < t.scale < math.inf
        assert t.scale >= np.finfo(np.float32).tiny


def test_a_known_input_range_is_taken_where_nothing_else_decides():
    graph = Graph(
        "known",
        (
            layer(Input, "image"),
            layer(MaxPool, "pool", "image", kernel_shape=(1, 1)),
            layer(Input, "other"),
            layer(Dense, "made", "other"),
            layer(Concat, "both", "other", "made", shape=(4, 4, 4)),
        ),
        ("pool", "both"),
    )
    bounds = {"image": (-0.5, 0.5), "other": (-0.5, 0.5), "made": (-3.0, 3.0)}
    known = Recipe(activation_range=MIN_MAX, input_ranges={"image": (-1.0, 1.5), "other": (-1.0, 1.5)})
    steps = 2.5 / 255
    for bits in (8, 16):
        tensors = quants(graph, bounds, dataclasses.replace(known, precision=Precision(bits, 8)))
        np.testing.assert_allclose(tensors["image"].real_range, (-1, 1.5), atol=steps)
        assert tensors["pool"] == tensors["image"]
        assert tensors["other"].real_range[1] > 2.9  # its scale is also that of `made`
    cut = quants(graph, bounds, dataclasses.replace(known, precision=Precision(4, 8)))
    np.testing.assert_allclose(cut["image"].real_range, (-0.5, 0.5), atol=0.1)
    named = dataclasses.replace(known, layer_ranges={"pool": ActivationRange("manual", (-0.25, 0.25))})
    np.testing.assert_allclose(quants(graph, bounds, named)["image"].real_range, (-0.25, 0.25), atol=0.01)

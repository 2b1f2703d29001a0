"""Branches that read one tensor and are added: which become one layer, and which must not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parser.networks import kinds, normalization, op, weights

from mz.graph import Conv
from mz.parser.parallel import _places

NORM = normalization(6)
X = ["N", 6, 9, 8]
BATCH_NORM = op("BatchNormalization", "x scale shift mean var", "n")


def conv(name: str, kernel: str = "3 3", groups: int = 1, seed: int = 0, **attributes):
    """A convolution of x to 6 channels that keeps its map, and its constants."""
    taps = [int(size) for size in kernel.split()]
    pads = attributes.pop("pads", [size // 2 * attributes.get("dilations", [1, 1])[0] for size in taps] * 2)
    arrays = {
        f"w{name}": weights(6, 6 // groups, *taps, seed=seed + 10),
        f"b{name}": weights(6, seed=seed + 20),
    }
    return op("Conv", f"x w{name} b{name}", name, group=groups, pads=pads, **attributes), arrays


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kernel": "3 3"}, {"kernel": "1 1"}),
        ({"kernel": "1 1"}, {"kernel": "3 3"}),
        ({"kernel": "3 3"}, {"kernel": "3 3"}),
        ({"kernel": "3 3"}, {"kernel": "1 3"}),
        ({"kernel": "5 5", "groups": 6}, {"kernel": "3 3", "groups": 6}),
        ({"kernel": "5 3", "groups": 3}, {"kernel": "3 1", "groups": 3}),
        ({"kernel": "3 3", "strides": [2, 2]}, {"kernel": "1 1", "strides": [2, 2]}),
        ({"kernel": "3 3", "dilations": [2, 2]}, {"kernel": "1 1"}),
        ({"kernel": "5 5"}, {"kernel": "3 3", "dilations": [1, 1]}),
        ({"kernel": "4 4", "pads": [2, 2, 1, 1]}, {"kernel": "1 1"}),
    ],
)
def test_convolutions_that_are_added_are_one(proven, one, other) -> None:
    (first, weights_), (second, more) = conv("a", **one), conv("c", seed=1, **other)
    result = proven([first, second, op("Add", "a c", "s"), op("Relu", "s")], {"x": X}["x"], weights_ | more)
    assert kinds(result) == ["conv"]
    assert result.graph.layers[1].clip[0] == 0
    assert set(result.graph.layers[1].origin) == {"Conv_a", "Conv_c", "Add_s", "Relu_y"}
    assert any("added by its weights" in note for note in result.notes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"kernel": "3 1"}, {"kernel": "1 3"}),
        ({"kernel": "3 3"}, {"kernel": "3 3", "groups": 6}),
        ({"kernel": "3 3", "dilations": [2, 2]}, {"kernel": "3 3"}),
        ({"kernel": "3 3", "pads": [2, 1, 0, 1]}, {"kernel": "3 3", "pads": [0, 1, 2, 1]}),
    ],
)
def test_taps_that_are_not_the_others_stay_apart(proven, one, other) -> None:
    (first, weights_), (second, more) = conv("a", **one), conv("c", seed=1, **other)
    assert "add" in kinds(proven([first, second, op("Add", "a c")], X, weights_ | more))


def test_a_sum_of_three_branches_and_a_normalization_behind_it(proven) -> None:
    """As RepViT has it: the map itself, two depthwise convolutions, batch normalization of the sum."""
    (first, weights_), (second, more) = conv("a", groups=6), conv("c", "1 1", groups=6, seed=1)
    nodes = [first, second, op("Add", "a c", "s"), op("Add", "s x", "t")]
    nodes += [op("BatchNormalization", "t scale shift mean var", "u"), op("Relu", "u")]
    assert kinds(proven(nodes, X, weights_ | more | NORM)) == ["conv"]


@pytest.mark.parametrize("order", ["a n", "n a"])
def test_a_normalized_map_goes_into_a_depthwise_convolution_alone(proven, order) -> None:
    for groups, wanted in ((6, ["conv"]), (1, ["conv", "conv", "add"])):
        node, arrays = conv("a", groups=groups)
        result = proven([node, BATCH_NORM, op("Add", order)], X, arrays | NORM)
        assert sorted(kinds(result)) == sorted(wanted)


def test_a_map_goes_into_a_depthwise_convolution_alone(proven) -> None:
    for groups, wanted in ((6, ["conv"]), (1, ["conv", "add"])):
        node, arrays = conv("a", groups=groups)
        assert kinds(proven([node, op("Add", "x a")], X, arrays)) == wanted


@pytest.mark.parametrize("maker", ["Conv", "Relu", "Mul"])
def test_whatever_makes_the_map_that_is_added(proven, maker) -> None:
    """It is the map that goes into the depthwise convolution behind it, not the layer that makes it."""
    before, arrays = conv("b", groups=6)
    nodes = {
        "Conv": [before],
        "Relu": [before, op("Relu", "b", "r")],
        "Mul": [op("Sigmoid", "x", "s"), op("Mul", "s k", "m")],
    }[maker]
    after, more = conv("a", groups=6, seed=1)
    source = after.input[0] = nodes[-1].output[0]
    more["k"] = weights(6, 1, 1)
    result = proven([*nodes, after, op("Add", f"a {source}")], X, arrays | more)
    assert "add" not in kinds(result)


def test_constants_that_vary_over_the_map_stay_apart(proven) -> None:
    node, arrays = conv("a", groups=6)
    result = proven([node, op("Mul", "x k", "n"), op("Add", "a n")], X, arrays | {"k": weights(6, 9, 1)})
    assert "add" in kinds(result)


@pytest.mark.parametrize("clipped", ["a", "c"])
def test_a_clipped_branch_stays_apart(proven, clipped) -> None:
    (first, weights_), (second, more) = conv("a"), conv("c", "1 1", seed=1)
    nodes = [first, second, op("Relu", clipped, "r"), op("Add", f"r {'c' if clipped == 'a' else 'a'}")]
    assert kinds(proven(nodes, X, weights_ | more)) == ["conv", "conv", "add"]


@pytest.mark.parametrize("read", ["a", "c"])
def test_a_branch_that_others_read_stays(proven, read) -> None:
    (first, weights_), (second, more) = conv("a"), conv("c", "1 1", seed=1)
    result = proven([first, second, op("Add", "a c")], X, weights_ | more, outputs=["y", read])
    assert kinds(result) == ["conv", "conv", "add"]


def test_branches_of_two_maps_stay(proven) -> None:
    (first, weights_), (second, more) = conv("a"), conv("c", "1 1", seed=1)
    second.input[0] = "r"
    result = proven([first, op("Sigmoid", "x", "r"), second, op("Add", "a c")], X, weights_ | more)
    assert "add" in kinds(result)


def test_dense_branches(proven) -> None:
    nodes = [op("Gemm", "x w v", "a"), op("Gemm", "x u t", "c"), op("Add", "a c")]
    arrays = {"w": weights(6, 4), "v": weights(4), "u": weights(6, 4, seed=1), "t": weights(4, seed=1)}
    assert kinds(proven(nodes, ["N", 6], arrays)) == ["dense"]


def test_a_branch_that_is_broadcast_stays(proven) -> None:
    (first, weights_), (second, more) = conv("a"), conv("c", "9 8", seed=1, pads=[0, 0, 0, 0])
    assert "add" in kinds(proven([first, second, op("Add", "a c")], X, weights_ | more))


sizes = st.integers(1, 5)


@settings(deadline=None, max_examples=300)
@given(sizes, sizes, st.integers(0, 4), st.integers(0, 4), st.integers(1, 3), st.integers(1, 3))
def test_places_are_where_both_look(kernel, other_kernel, pad, other_pad, dilation, other_dilation) -> None:
    """Against the rows of the input that each tap sees from output row 0."""
    make = {"name": "", "inputs": ("x",), "shape": (1, 1, 1)}
    into, other = (
        Conv(**make, kernel_shape=(k, 1), pads=(p, 0, 0, 0), dilations=(d, 1))
        for k, p, d in ((kernel, pad, dilation), (other_kernel, other_pad, other_dilation))
    )
    seen = [tap * dilation - pad for tap in range(kernel)]
    wanted = [tap * other_dilation - other_pad for tap in range(other_kernel)]
    found = _places(into, other, 0)
    inside = set(wanted) <= set(seen) and (other_kernel == 1 or other_dilation == dilation)
    assert (found is not None) == inside
    if found is not None:
        assert seen[found] == wanted

"""Operators without weights: pools, element-wise layers, shapes, slices, resizes, softmax."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.parser.networks import kinds, network, op, prove, weights

from mz.errors import UserError

X = ["N", 4, 6, 7]


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pools_with_any_attributes(data: st.DataObject) -> None:
    pick = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kernel = [pick(1, 3), pick(1, 3)]
    operator = data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    attributes = {"kernel_shape": kernel, "strides": [pick(1, 3), pick(1, 3)], "ceil_mode": pick(0, 1)}
    attributes["pads"] = [pick(0, size - 1) for size in kernel * 2]
    if operator == "MaxPool" and not attributes["ceil_mode"]:
        attributes["dilations"] = [pick(1, 2), pick(1, 2)]
    elif operator == "AveragePool" and not attributes["ceil_mode"]:
        attributes["count_include_pad"] = pick(0, 1)
    model = network([op(operator, "x", **attributes)], {"x": ["N", 2, pick(5, 9), pick(5, 9)]})
    with tempfile.TemporaryDirectory() as folder:
        prove(model, Path(folder))


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_pools_with_automatic_pads(proven, operator, auto_pad) -> None:
    proven(op(operator, "x", kernel_shape=[3, 2], strides=[2, 2], auto_pad=auto_pad), X)


def test_a_mean_with_an_uncertain_divisor_is_refused(proven) -> None:
    node = op("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1)
    with pytest.raises(UserError, match="count_include_pad is not combined with ceil_mode"):
        proven(node, X)


def test_a_ceil_mode_that_pads_a_whole_kernel_is_refused(proven) -> None:
    node = op(
        "MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1
    )
    with pytest.raises(UserError, match="smaller than the kernel"):
        proven(node, ["N", 2, 6, 6])


@pytest.mark.parametrize("mean", [op("GlobalAveragePool", "z", "m"), op("ReduceMean", "z", "m", axes=[2, 3])])
def test_means_near_zero_of_large_maps_are_proven(proven, mean) -> None:
    """Which differ by more than 110 dB allow where a map is added up value by value in one float32."""
    kernel = weights(4, 4, 3, 3)
    kernel -= kernel.mean(axis=(2, 3), keepdims=True)
    proven([op("Conv", "x w", "z"), mean, op("Identity", "m")], ["N", 4, 160, 160], {"w": kernel})


def test_global_pools(proven) -> None:
    assert kinds(proven(op("GlobalAveragePool", "x"), X)) == ["global_avgpool"]
    assert kinds(proven(op("GlobalMaxPool", "x"), X)) == ["maxpool"]
    assert kinds(proven(op("ReduceMean", "x", axes=[2, 3]), X, opset=13)) == ["global_avgpool"]
    assert kinds(proven(op("ReduceMean", "x", axes=[-1, -2], keepdims=0), X)) == ["global_avgpool", "reshape"]
    assert kinds(proven(op("ReduceMean", "x a"), X, {"a": ints(2, 3)}, opset=18)) == ["global_avgpool"]
    assert kinds(proven(op("ReduceMean", "x", axes=[2]), X)) == ["avgpool"]
    assert kinds(proven(op("ReduceMean", "x", axes=[3], keepdims=0), X)) == ["avgpool", "reshape"]
    assert kinds(proven(op("GlobalAveragePool", "x"), X, opset=18)) == ["global_avgpool"]
    for axes in ([2, 3], [2], [3]):
        assert kinds(proven(op("ReduceMax", "x", axes=axes), X)) == ["maxpool"]


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("axes", [[1], [-3], [1, 3], [1, 2, 3]])
def test_maxima_over_channels(proven, axes, kept) -> None:
    """As spatial attention (CBAM) takes them."""
    result = proven(op("ReduceMax", "x", axes=axes, keepdims=kept), X)
    assert set(kinds(result)) == {"maxpool", "reshape"}


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("other", [X, ["N", 4, 1, 1], ["N", 1, 6, 7]])
def test_elementwise(proven, operator, other) -> None:
    result = proven([op(operator, "x z", "t"), op("Relu", "t")], {"x": X, "z": other})
    assert kinds(result) == [operator.lower()]


def test_sum_of_three(proven) -> None:
    assert kinds(proven(op("Sum", "x z x"), {"x": X, "z": X})) == ["add", "add"]


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concat(proven, axis) -> None:
    result = proven([op("Sigmoid", "x", "s"), op("Concat", "x s x", axis=axis)], X)
    assert kinds(result) == ["activation", "concat"]


@pytest.mark.parametrize(
    ("node", "constants", "opset"),
    [
        (op("Reshape", "x s"), {"s": ints(0, -1)}, 17),
        (op("Reshape", "x s"), {"s": ints(1, 6, 28)}, 17),
        (op("Flatten", "x", axis=1), {}, 9),
        (op("Flatten", "x", axis=-2), {}, 17),
        (op("Unsqueeze", "x", axes=[2]), {}, 11),
        (op("Unsqueeze", "x a"), {"a": ints(-1, 1)}, 13),
    ],
)
def test_reshapes(proven, node, constants, opset) -> None:
    assert kinds(proven(node, [1, *X[1:]], constants, opset=opset)) == ["reshape"]


@pytest.mark.parametrize(("opset", "axes"), [(11, {"axes": [2, 3]}), (11, {}), (13, {})])
def test_squeeze(proven, opset, axes) -> None:
    nodes = [op("GlobalAveragePool", "x", "p"), op("Squeeze", "p", **axes)]
    assert kinds(proven(nodes, X, opset=opset)) == ["global_avgpool", "reshape"]


def test_shapes_worked_out_by_the_exporter(proven) -> None:
    nodes = [
        op("Shape", "x", "s"),
        op("Gather", "s zero", "n", axis=0),
        op("Unsqueeze", "n first", "u"),
        op("Concat", "u rest", "t", axis=0),
        op("Reshape", "x t"),
    ]
    constants = {"zero": np.asarray(0), "first": ints(0), "rest": ints(-1)}
    assert kinds(proven(nodes, X, constants)) == ["reshape"]


def test_identities_leave_no_layer(proven) -> None:
    nodes = [op("Identity", "x", "i"), op("Dropout", "i", "d"), op("Cast", "d", "c", to=1), op("Relu", "c")]
    assert kinds(proven(nodes, X)) == ["activation"]


@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2]])
def test_transpose(proven, perm) -> None:
    assert kinds(proven(op("Transpose", "x", perm=perm), X)) == ["transpose"]


def test_channels_last_network(proven) -> None:
    nodes = [
        op("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        op("Conv", "t w", "c"),
        op("Transpose", "c", "b", perm=[0, 2, 3, 1]),
        op("Add", "b k", "a"),
        op("Transpose", "a", perm=[0, 3, 1, 2]),
    ]
    proven(nodes, [1, 6, 7, 4], {"w": weights(5, 4, 3, 3), "k": weights(5)})


def test_channel_shuffle_over_the_batch_axis_becomes_strided_slices(proven) -> None:
    nodes = [
        op("Reshape", "x s1", "a"),
        op("Transpose", "a", "t", perm=[1, 0, 2]),
        op("Reshape", "t s2", "b"),
        op("Gather", "b zero", "p", axis=0),
        op("Gather", "b one", "q", axis=0),
        op("Sub", "p q"),
    ]
    constants = {
        "s1": ints(2, 2, 42),
        "s2": ints(2, -1, 2, 6, 7),
        "zero": np.asarray(0),
        "one": np.asarray(1),
    }
    result = proven(nodes, [1, *X[1:]], constants)
    assert kinds(result) == ["slice", "slice", "sub"] and result.graph["slice2"].steps == (2, 1, 1)


def test_moves_that_cancel_leave_no_layer(proven) -> None:
    nodes = [
        op("Transpose", "x", "a", perm=[0, 2, 3, 1]),
        op("Transpose", "a", "b", perm=[0, 3, 1, 2]),
        op("Sigmoid", "b"),
    ]
    assert kinds(proven(nodes, X)) == ["activation"]


@pytest.mark.parametrize(
    ("node", "constants", "opset"),
    [
        (op("Slice", "x", starts=[1], ends=[3], axes=[1]), {}, 9),
        (
            op("Slice", "x s e a t"),
            {"s": ints(1, -5), "e": ints(99, -1), "a": ints(1, 3), "t": ints(2, 2)},
            13,
        ),
        (op("Gather", "x i", axis=1), {"i": ints(1, 2, 3)}, 13),
        (op("Gather", "x i", axis=2), {"i": ints(1, 3, 5)}, 13),
        (op("Gather", "x i", axis=3), {"i": ints(-1)}, 13),
    ],
)
def test_slices(proven, node, constants, opset) -> None:
    assert kinds(proven(node, X, constants, opset=opset)) == ["slice"]


@pytest.mark.parametrize(
    ("node", "constants", "opset"),
    [
        (op("Split", "x", "a b", axis=1), {}, 11),
        (op("Split", "x", "a b", axis=1, split=[1, 3]), {}, 11),
        (op("Split", "x p", "a b", axis=-1), {"p": ints(2, 5)}, 13),
        (op("Split", "x", "a b", axis=3, num_outputs=2), {}, 18),
    ],
)
def test_split(proven, node, constants, opset) -> None:
    result = proven(node, X, constants, outputs=["a", "b"], opset=opset)
    assert kinds(result) == ["slice", "slice"]


def test_a_batch_of_one_in_one_part(proven) -> None:
    """As TensorFlow takes the images of a batch apart."""
    assert kinds(proven([op("Split", "x", "s", axis=0), op("Relu", "s")], [1, 4, 6, 7])) == ["activation"]


def test_slices_that_cannot_be(proven) -> None:
    back = {"s": ints(-1), "e": ints(-9), "a": ints(2), "t": ints(-1)}
    with pytest.raises(UserError, match="Steps are positive"):
        proven(op("Slice", "x s e a t"), X, back)
    with pytest.raises(UserError, match="The batch axis is left as it is"):
        proven(op("Split", "x", "y z", axis=0), [1, 3], outputs=("y", "z"))


def test_the_one_image_of_a_batch_may_be_picked(proven) -> None:
    nodes = [op("Conv", "x w", "c"), op("Gather", "c i", "g", axis=0), op("Relu", "g")]
    result = proven(nodes, [1, 4, 6, 7], {"i": np.asarray(0), "w": weights(3, 4, 1, 1)})
    assert kinds(result) == ["conv"]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(proven, mode) -> None:
    result = proven(op("DepthToSpace", "x", blocksize=2, mode=mode), ["N", 8, 3, 5])
    assert kinds(result) == ["reshape", "transpose", "reshape"]
    with pytest.raises(UserError, match="The block size divides the channels"):
        proven(op("DepthToSpace", "x", blocksize=3, mode=mode), ["N", 8, 3, 5])


def test_space_to_depth(proven) -> None:
    assert kinds(proven(op("SpaceToDepth", "x", blocksize=2), ["N", 3, 4, 6])) == [
        "reshape",
        "transpose",
        "reshape",
    ]


def test_the_focus_of_a_detector_is_four_slices_and_a_concat(proven) -> None:
    cuts = [(0, 0), (1, 0), (0, 1), (1, 1)]
    constants = {f"s{i}": ints(*cut) for i, cut in enumerate(cuts)}
    constants |= {"e": ints(99, 99), "a": ints(2, 3), "t": ints(2, 2), "w": weights(3, 8, 1, 1)}
    nodes = [op("Slice", f"x s{i} e a t", f"p{i}") for i in range(4)]
    nodes += [op("Concat", "p0 p1 p2 p3", "c", axis=1), op("Conv", "c w")]
    assert kinds(proven(nodes, ["N", 2, 6, 8], constants)) == ["slice"] * 4 + ["concat", "conv"]


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize(
    "pads", [(0, 0, 1, 2, 0, 0, 3, 1), (0, 0, 0, 0, 0, 0, 0, 1), (0, 1, 0, -2, 0, 1, 2, 1), (0,) * 8]
)
def test_pads_of_its_own_numbers(proven, mode, pads) -> None:
    nodes = [op("Conv", "x w", "c"), op("Pad", "c p", mode=mode)]
    constants = {"p": ints(*pads), "w": weights(4, X[1], 1, 1)}
    result = proven(nodes, ["N", X[1], 6, 5], constants, opset=19)
    assert result.graph.coverage().layers_percent == 100
    assert set(kinds(result)) <= {"conv", "slice", "concat"}


@pytest.mark.parametrize("taken", [0.0, 2.5])
@pytest.mark.parametrize("inputs", ["m x k", "m k x"])
@pytest.mark.parametrize("shape", [(1,), (4, 1, 1), (6, 7), (1, 4, 6, 7)])
def test_where_by_constants(proven, taken, inputs, shape) -> None:
    mask = weights(*shape) > 0
    nodes = [op("Where", inputs, "z"), op("Conv", "z w")]
    result = proven(nodes, X, {"m": mask, "k": taken, "w": weights(3, X[1], 1, 1)})
    assert result.graph.coverage().layers_percent == 100


def test_where_with_infinities_is_the_hosts(proven) -> None:
    nodes = [op("Where", "m k x", "z"), op("ReduceMax", "z", axes=[-1])]
    result = proven(nodes, X, {"m": weights(7) > 0, "k": -np.inf})
    assert kinds(result)[0] == "host_op"


def grid(*axes: int) -> np.ndarray:
    """Indices [.., 2] of windows of two rows and three columns, as torch's adaptive pools are exported."""
    rows = np.arange(3)[:, None, None, None] + np.arange(2)[None, :, None, None]
    columns = 2 * np.arange(2)[None, None, :, None] + np.arange(3)[None, None, None, :]
    return np.stack(np.broadcast_arrays(rows, columns), axis=-1).transpose(*axes, 4)


def test_windows_by_gather(proven) -> None:
    nodes = [
        *(op("Transpose", "x", "t", perm=[2, 3, 0, 1]), op("GatherND", "t i", "g")),
        *(op("Transpose", "g", "u", perm=[4, 5, 0, 1, 2, 3]), op("ReduceMean", "u", axes=[3, 5], keepdims=0)),
    ]
    result = proven(nodes, X, {"i": grid(0, 1, 2, 3)})
    assert result.graph.coverage().layers_percent == 100


def test_places_in_another_order_are_refused(proven) -> None:
    nodes = [op("Transpose", "x", "t", perm=[2, 3, 0, 1]), op("GatherND", "t i")]
    with pytest.raises(UserError, match="Each axis of the indices tells places of one axis"):
        proven(nodes, X, {"i": grid(2, 3, 0, 1)})
    with pytest.raises(UserError, match="Each axis of the indices tells places of one axis"):
        proven(nodes, X, {"i": ints(0, 0, 1, 1, 2, 2).reshape(3, 2)})


def test_a_stack_that_is_summed(proven) -> None:
    """As PyTorch exports torch.stack(...).sum(0)."""
    nodes = [op(kind, "x", kind) for kind in ("Relu", "Sigmoid")]
    nodes += [op("Unsqueeze", f"{kind} zero", f"{kind}_") for kind in ("Relu", "Sigmoid")]
    nodes += [op("Concat", "Relu_ Sigmoid_", "c", axis=0), op("ReduceSum", "c zero", keepdims=0)]
    result = proven(nodes, X, {"zero": ints(0)})
    assert result.graph.coverage().layers_percent == 100


def test_one_place_repeated(proven) -> None:
    constants = {"p": ints(0, 0, 2, 0, 0, 0, 2, 0)}
    proven(op("Pad", "x p", mode="edge"), ["N", 3, 1, 5], constants)


@pytest.mark.parametrize("number", [0, 0.5])
@pytest.mark.parametrize("shape", [[1, 5, 8], [1, 2, 3, 4, 5]])
def test_pads_around_any_axis(proven, number, shape) -> None:
    pads = [[1, 2]] * (len(shape) - 1)
    given = [0, *(a for a, _ in pads), 0, *(b for _, b in pads)]
    nodes = [op("Sigmoid", "x", "r"), op("Pad", "r p number", "q"), op("MatMul", "q w")]
    constants = {"p": ints(*given), "number": number, "w": weights(shape[-1] + 3, 2)}
    result = proven(nodes, shape, constants)
    assert not any(layer.host for layer in result.graph.layers)


@pytest.mark.parametrize("pads", [(0, 0, -1, 0, 0, 0, 0, -2), (0, -1, 2, 0, 0, 1, -1, 0)])
def test_negative_pads_cut(proven, pads) -> None:
    result = proven([op("Relu", "x", "r"), op("Pad", "r p")], X, {"p": ints(*pads)})
    assert "slice" in kinds(result)


@pytest.mark.parametrize(
    ("mode", "number", "pads", "message"),
    [
        ("constant", -np.inf, (0, 0, 1, 1, 0, 0, 1, 1), "The mode is constant, with a finite number"),
        ("mirror", 0, (0, 0, 1, 1, 0, 0, 1, 1), "edge, reflect or wrap .here mode mirror"),
        ("edge", 0, (1, 0, 0, 0, 0, 0, 0, 0), "The batch axis is not padded"),
    ],
)
def test_pads_that_cannot_be(proven, mode, number, pads, message) -> None:
    with pytest.raises(UserError, match=message):
        proven(op("Pad", "x p number", mode=mode), X, {"p": ints(*pads), "number": number})


@pytest.mark.parametrize("pads", [(0, 0, 1, 0, 0, 0, 2, 1), (0, 1, 0, 0, 0, 2, 0, 0), (0,) * 8])
def test_pads_of_ones(proven, pads) -> None:
    result = proven(
        [op("Pad", "x p one", "q"), op("Conv", "q w")], X, {"p": ints(*pads), "one": 1} | kernel(pads)
    )
    assert result.graph.coverage().layers_percent == 100


def kernel(pads: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"w": weights(2, X[1] + pads[1] + pads[5], 1, 1)}


MODERN = [
    {"mode": mode, "coordinate_transformation_mode": coordinates, **nearest}
    for mode, roundings in (
        ("linear", [None]),
        ("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
    )
    for coordinates in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    for nearest in ([{"nearest_mode": rounding} if rounding else {} for rounding in roundings])
]


@pytest.mark.parametrize("attributes", MODERN, ids=lambda attributes: "-".join(attributes.values()))
def test_resize_by_sizes_and_by_scales(proven, attributes) -> None:
    sizes = proven(op("Resize", "x _ _ s", **attributes), X, {"s": ints(1, 4, 13, 10)})
    assert sizes.graph["resize1"].shape == (4, 13, 10)
    scales = {"s": np.asarray([1, 1, 2, 1.5], np.float32)}
    result = proven(op("Resize", "x _ s", **attributes), X, scales)
    assert result.graph["resize1"].shape == (4, 12, 10)


@pytest.mark.parametrize("factor", [2.0, 0.5])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_old_opsets(proven, factor, mode) -> None:
    scales = {"s": np.asarray([1, 1, factor, factor], np.float32)}
    x = ["N", 2, 6, 8]
    assert kinds(proven(op("Resize", "x s", mode=mode), x, scales, opset=10)) == ["resize"]
    if factor > 1:
        proven(op("Upsample", "x s", mode=mode), x, scales, opset=9)
        proven(op("Upsample", "x", mode=mode, scales=[1.0, 1.0, factor, factor]), x, opset=7)


WEIGHTED = [
    {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
    {"mode": "cubic", "coordinate_transformation_mode": "align_corners", "cubic_coeff_a": -0.5},
    {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel", "exclude_outside": 1},
    {"mode": "linear", "antialias": 1},
    {"mode": "cubic", "antialias": 1, "cubic_coeff_a": -0.5},
    {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"},
]


@pytest.mark.parametrize("attributes", WEIGHTED, ids=lambda found: "-".join(map(str, found.values())))
def test_resize_by_matrices(proven, attributes) -> None:
    for inputs, numbers in (
        ("x _ _ s", ints(1, 4, 13, 4)),
        ("x _ s", np.asarray([1, 1, 2, 1], np.float32)),
        ("x _ s", np.asarray([1, 1, 0.5, 0.7], np.float32)),
    ):
        result = proven(op("Resize", inputs, **attributes), ["N", 4, 6, 7], {"s": numbers}, opset=19)
        assert result.graph.coverage().layers_percent == 100 and "resize" not in kinds(result)


def test_resize_by_matrices_of_some_axes(proven) -> None:
    node = op("Resize", "x _ _ s", mode="cubic", axes=[2, 3])
    proven(node, X, {"s": ints(12, 21)}, opset=18)


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"keep_aspect_ratio_policy": "not_larger"}, "mode nearest, policy not_larger"),
        ({"coordinate_transformation_mode": "tf_crop_and_resize"}, "here tf_crop_and_resize"),
        ({"coordinate_transformation_mode": "half_pixel_symmetric"}, "here half_pixel_symmetric"),
    ],
)
def test_resize_that_cannot_be(proven, attributes, found) -> None:
    with pytest.raises(UserError, match=found):
        proven(op("Resize", "x _ _ s", **attributes), X, {"s": ints(1, 4, 12, 14)}, opset=19)


@pytest.mark.parametrize(("axis", "opset"), [(1, 11), (2, 11), (3, 11), (1, 13), (-1, 13), (2, 17)])
def test_softmax_and_what_follows_run_on_the_host(proven, axis, opset) -> None:
    nodes = [op("Relu", "x", "r"), op("Softmax", "r", "s", axis=axis), op("Mul", "s two")]
    result = proven(nodes, X, {"two": 2}, opset=opset)
    host = {layer.kind for layer in result.graph.layers if layer.host}
    assert host >= {"softmax", "host_op"} and not result.graph["activation1"].host
    assert list(result.host_reasons.values()) == ["Softmax Softmax_s: Softmax runs in float"]

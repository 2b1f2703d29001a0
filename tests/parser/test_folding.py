"""What is folded into what: normalizations and constants into weights, clips into bounds, pads into pads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.parser.networks import kinds, normalization, op, weights

CONV = op("Conv", "x w b", "c", pads=[1, 1, 1, 1])
WEIGHTS = {"w": weights(4, 3, 3, 3), "b": weights(4)}
NORM = normalization(4)
X = ["N", 3, 8, 8]


def ints(*values: int) -> np.ndarray:
    return np.asarray(values)


def test_batch_normalization_goes_into_a_convolution(proven) -> None:
    nodes = [CONV, op("BatchNormalization", "c scale shift mean var", epsilon=1e-3)]
    result = proven(nodes, X, WEIGHTS | NORM)
    assert kinds(result) == ["conv"]
    assert result.graph["conv1"].origin == ("Conv_c", "BatchNormalization_y")
    assert any("folded" in note for note in result.notes)


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_normalization_goes_into_a_transposed_convolution(proven, groups) -> None:
    nodes = [
        op("ConvTranspose", "x w", "c", group=groups, strides=[2, 2]),
        op("BatchNormalization", "c scale shift mean var"),
    ]
    result = proven(nodes, ["N", 4, 5, 5], {"w": weights(4, 4 // groups, 2, 2)} | NORM)
    assert kinds(result) == ["deconv"]


def test_batch_normalization_goes_into_a_dense_layer(proven) -> None:
    nodes = [op("Gemm", "x w", "c"), op("BatchNormalization", "c scale shift mean var")]
    assert kinds(proven(nodes, ["N", 3], {"w": weights(3, 4)} | NORM)) == ["dense"]


def test_a_convolution_that_others_read_keeps_its_weights(proven) -> None:
    nodes = [CONV, op("BatchNormalization", "c scale shift mean var", "n"), op("Add", "c n")]
    result = proven(nodes, X, WEIGHTS | NORM)
    assert [layer.name for layer in result.graph.layers[1:]] == ["conv1", "normalization1", "ew_add1"]
    assert any(note.startswith("normalization1:") and "read elsewhere" in note for note in result.notes)


def test_a_convolution_that_is_an_output_keeps_its_weights(proven) -> None:
    nodes = [CONV, op("BatchNormalization", "c scale shift mean var", "n"), op("Relu", "n")]
    result = proven(nodes, X, WEIGHTS | NORM, outputs=["c", "y"])
    assert result.graph.outputs == ("conv1", "normalization1")
    assert result.graph["conv1"].clip == (-math.inf, math.inf)


@pytest.mark.parametrize("pads", [0, 1])
def test_normalization_of_the_input(proven, pads) -> None:
    """Goes into what reads it, but for pads: those are zeros of the normalized map."""
    nodes = [op("Sub", "x m", "a"), op("Div", "a s", "n"), op("Conv", "n w b", pads=[0, pads, 0, 0])]
    constants = {"m": weights(3, 1, 1), "s": np.abs(weights(3, 1, 1)) + 1}
    result = proven(nodes, X, WEIGHTS | constants)
    names = ["input_layer1", "normalization1", "conv1"] if pads else ["input_layer1", "conv1"]
    assert [layer.name for layer in result.graph.layers] == names


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_constants_go_into_the_layers_behind(proven, group, offset) -> None:
    """Where all of them are convolutions; a factor whatever the pads are, an offset where there are none."""
    nodes = [
        op("Sigmoid", "x", "s"),
        op("Mul", "s k", "m"),
        op("Add", "m j", "a"),
        op("Conv", "a w", "c", group=group, pads=[1, 1, 1, 1]),
        op("Conv", "a v b", "d"),
        op("Concat", "c d", axis=1),
    ]
    constants = {"k": weights(4, 1, 1), "j": np.full((4, 1, 1), offset, np.float32), "b": weights(4)}
    constants |= {"w": weights(4, 4 // group, 3, 3, seed=1), "v": weights(4, 4, 1, 1, seed=2)}
    result = proven(nodes, ["N", 4, 6, 6], constants)
    assert sorted(kinds(result)) == ["activation", "concat", "conv", "conv", *["conv"] * (offset != 0)]


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("group", [1, 2])
def test_factors_go_into_a_transposed_convolution_behind(proven, group, offset) -> None:
    nodes = [
        op("Sigmoid", "x", "s"),
        op("Mul", "s k", "m"),
        op("Add", "m j", "a"),
        op("ConvTranspose", "a w", group=group, strides=[2, 2]),
    ]
    constants = {"k": weights(4, 1, 1), "j": np.full((4, 1, 1), offset, np.float32), "w": weights(4, 3, 2, 2)}
    result = proven(nodes, ["N", 4, 5, 5], constants)
    assert kinds(result) == ["activation", *["conv"] * (offset != 0), "deconv"]


def test_constants_that_a_sum_reads_too_stay_a_layer(proven) -> None:
    nodes = [op("Sigmoid", "x", "s"), op("Mul", "s k", "m"), op("Conv", "m w", "c"), op("Add", "m c")]
    constants = {"k": weights(4, 1, 1), "w": weights(4, 4, 1, 1)}
    assert kinds(proven(nodes, ["N", 4, 5, 5], constants)) == ["activation", "conv", "conv", "add"]


def test_constants_after_a_clip_stay_outside(proven) -> None:
    nodes = [CONV, op("Relu", "c", "r"), op("Mul", "r k")]
    result = proven(nodes, X, WEIGHTS | {"k": 2.5})
    assert [layer.name for layer in result.graph.layers[1:]] == ["conv1", "normalization1"]


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1, 1), (1, 4, 1, 1)])
def test_constants_of_every_shape_go_into_the_weights(proven, operator, shape) -> None:
    result = proven([CONV, op(operator, "c k")], X, WEIGHTS | {"k": weights(*shape) + 3})
    assert kinds(result) == ["conv"]


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
def test_constants_on_the_left(proven, operator) -> None:
    assert kinds(proven([CONV, op(operator, "k c")], X, WEIGHTS | {"k": weights(4, 1, 1)})) == ["conv"]


@pytest.mark.parametrize(
    ("x", "k"),
    [
        (["N", 4, 5, 6], (5, 6)),
        (["N", 4, 5, 6], (5, 1)),
        (["N", 5, 3], (5, 3)),
        (["N", 5, 3], (5, 1)),
    ],
)
def test_constants_that_vary_within_a_channel(proven, x, k) -> None:
    nodes = [op("Mul", "x k", "m"), op("Add", "m j", "a"), op("MatMul", "a w")]
    constants = {"k": weights(*k), "j": weights(*k, seed=1), "w": weights(x[-1], 2)}
    result = proven(nodes, x, constants)
    assert kinds(result) == ["reshape", "conv", "reshape", "dense"]


@pytest.mark.parametrize(("x", "k"), [(["N", 4, 5, 6], (6,)), (["N", 7], (7,)), (["N", 7], ())])
def test_constants_go_into_a_dense_layer_behind(proven, x, k) -> None:
    nodes = [op("Mul", "x k", "m"), op("Add", "m j", "a"), op("MatMul", "a w")]
    constants = {"k": weights(*k), "j": weights(*k, seed=1), "w": weights(x[-1], 2)}
    assert kinds(proven(nodes, x, constants)) == ["dense"]


@pytest.mark.parametrize(
    ("node", "constants", "opset", "bounds"),
    [
        (op("Relu", "c"), {}, 17, (0.0, math.inf)),
        (op("Clip", "c low high"), {"low": 0, "high": 6}, 11, (0.0, 6.0)),
        (op("Clip", "c low"), {"low": -1}, 13, (-1.0, math.inf)),
        (op("Clip", "c _ high"), {"high": 1}, 13, (-math.inf, 1.0)),
        (op("Clip", "c", min=0.0, max=6.0), {}, 7, (0.0, 6.0)),
        (op("Max", "c low"), {"low": 0}, 13, (0.0, math.inf)),
        (op("Min", "high c"), {"high": 0.5}, 13, (-math.inf, 0.5)),
    ],
)
def test_clips_become_bounds(proven, node, constants, opset, bounds) -> None:
    result = proven([CONV, node], X, WEIGHTS | constants, opset=opset)
    assert kinds(result) == ["conv"] and result.graph["conv1"].clip == bounds


def test_a_clip_without_a_layer_to_bound(proven) -> None:
    result = proven([op("MaxPool", "x", "p", kernel_shape=[2, 2]), op("Relu", "p")], X)
    assert result.graph["activation1"].constants == (0.0, math.inf)


def test_a_second_clip_stays(proven) -> None:
    nodes = [op("Add", "x x", "a"), op("Relu", "a", "r"), op("Neg", "r", "n"), op("Clip", "n low", "y")]
    result = proven(nodes, X, {"low": -1})
    assert kinds(result) == ["add", "conv"]


@pytest.mark.parametrize("opset", [10, 11, 17, 18])
def test_pads_go_into_a_convolution(proven, opset) -> None:
    pads = [0, 0, 0, 1, 0, 0, 2, 3]
    nodes = [op("Pad", "x p", "q") if opset > 10 else op("Pad", "x", "q", pads=pads), op("Conv", "q w b")]
    constants = {"p": np.asarray(pads)} if opset > 10 else {}
    result = proven(nodes, X, WEIGHTS | constants, opset=opset)
    assert kinds(result) == ["conv"] and result.graph["conv1"].pads == (0, 1, 2, 3)


def test_pads_go_into_a_mean_but_not_into_a_maximum(proven) -> None:
    pads = {"p": np.asarray([0, 0, 1, 1, 0, 0, 1, 1])}
    mean = proven([op("Pad", "x p", "q"), op("AveragePool", "q", kernel_shape=[3, 3])], X, pads)
    assert kinds(mean) == ["avgpool"] and mean.graph["avgpool1"].count_include_pad
    maximum = proven([op("Pad", "x p", "q"), op("MaxPool", "q", kernel_shape=[3, 3])], X, pads)
    assert kinds(maximum) == ["pad", "maxpool"]


def test_a_shortcut_without_weights_is_one_strided_convolution(proven) -> None:
    nodes = [op("Slice", "x s e a t", "h"), op("Pad", "h p")]
    constants = {
        "s": np.asarray([0, 0]),
        "e": np.asarray([9, 9]),
        "a": np.asarray([2, 3]),
        "t": np.asarray([2, 2]),
        "p": np.asarray([0, 2, 0, 0, 0, 3, 0, 0]),
    }
    result = proven(nodes, ["N", 3, 9, 8], constants, at_least_db=200)
    assert kinds(result) == ["conv"] and result.graph["conv1"].strides == (2, 2)


def test_transposes_meet_behind_what_works_value_by_value(proven) -> None:
    """The constants, one per channel on the last axis, go into the convolution with them."""
    nodes = [
        *(CONV, op("Transpose", "c", "t", perm=[0, 2, 3, 1]), op("Mul", "t s", "m"), op("Add", "m o", "a")),
        *(op("Sigmoid", "a", "g"), op("Mul", "a g", "h"), op("Add", "h t", "r")),
        *(op("Transpose", "r", "u", perm=[0, 3, 1, 2]), op("Conv", "u v")),
    ]
    constants = WEIGHTS | {"s": weights(4), "o": weights(4, seed=1), "v": weights(2, 4, 1, 1)}
    assert kinds(proven(nodes, X, constants)) == ["conv", "conv", "activation", "add", "conv"]


def test_channels_that_stand_last_between_convolutions(proven) -> None:
    """As Keras has them: pads, normalizations, branches side by side, slices and means work on maps [N, H, W, C]."""

    def conv(source: str, kernel: str, name: str) -> list:
        return [
            op("Transpose", source, f"{name}0", perm=[0, 3, 1, 2]),
            op("Conv", f"{name}0 {kernel}", f"{name}1"),
            op("Transpose", f"{name}1", name, perm=[0, 2, 3, 1]),
        ]

    nodes = [
        *(*conv("x", "w1", "a"), op("Mul", "a f", "b"), op("Relu", "b", "c"), op("Pad", "c p", "d")),
        *(*conv("d", "w2", "e"), op("Slice", "c from to axes", "g"), op("Concat", "e g", "h", axis=3)),
        *(op("ReduceMean", "h", "m", axes=[1, 2]), op("Sub", "h m", "i"), *conv("i", "w3", "y")),
    ]
    constants = {"w1": weights(4, 3, 1, 1), "w2": weights(5, 4, 2, 2), "w3": weights(2, 8, 3, 3)}
    constants |= {"f": weights(4), "p": ints(0, 0, 0, 0, 0, 1, 1, 0)}
    constants |= {"from": ints(0, 0, 1), "to": ints(6, 7, 4), "axes": ints(1, 2, 3)}
    found = kinds(proven(nodes, ["N", 6, 7, 3], constants))
    assert found == [
        "transpose",
        "conv",
        "conv",
        "slice",
        "concat",
        "global_avgpool",
        "sub",
        "conv",
        "transpose",
    ]


def test_a_transpose_that_others_read_too_is_not_doubled(proven) -> None:
    nodes = [
        *(CONV, op("Transpose", "c", "t", perm=[0, 2, 3, 1]), op("MatMul", "t v", "d")),
        *(op("Sigmoid", "t", "g"), op("MatMul", "g v", "e"), op("Add", "d e")),
    ]
    result = proven(nodes, X, WEIGHTS | {"v": weights(4, 5)})
    assert kinds(result).count("transpose") == 1


def test_a_sigmoid_at_the_end_stays_there(proven) -> None:
    """Its scores are told from what it reads."""
    nodes = [CONV, op("Transpose", "c", "t", perm=[0, 2, 3, 1]), op("Sigmoid", "t")]
    result = proven(nodes, X, WEIGHTS)
    assert kinds(result) == ["conv", "transpose", "activation"] and set(result.scores) == {"activation1"}


def test_a_normalization_behind_a_merged_batch(proven) -> None:
    """LeViT flattens the batch into the tokens before it normalizes a dense layer's channels."""
    nodes = [
        *(op("Reshape", "x s", "t"), op("MatMul", "t w", "m"), op("Reshape", "m f", "r")),
        *(
            op("BatchNormalization", "r scale shift mean var", "n"),
            op("Reshape", "n b", "u"),
            op("Relu", "u"),
        ),
    ]
    constants = {"s": ints(1, 24, 7), "w": weights(7, 5), "f": ints(24, 5), "b": ints(1, 24, 5)}
    result = proven(nodes, ["N", 4, 6, 7], constants | normalization(5))
    assert result.graph.coverage().layers_percent == 100

"""Operators that run on the host as they are, what else is left to the host, and how much that leaves."""

from __future__ import annotations

import numpy as np
import pytest
from tests.parser.networks import kinds, op, weights

from mz.graph import Graph, HostOp
from mz.parser.host import BROADCAST, REDUCTIONS, RULES, UNARY

X = ["N", 4, 6, 7]
TRUTH = {"And", "Or", "Xor"}
LOGIC = TRUTH | {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where"}


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def of_kind(result, kind: str) -> list:
    return [layer for layer in result.graph.layers if layer.kind == kind]


@pytest.mark.parametrize("operator", sorted(set(UNARY) - {"Not", "IsNaN"}))
def test_functions_of_one_tensor(proven, operator) -> None:
    nodes = [op("Softmax", "x", "s"), op(operator, "s")]
    result = proven(nodes, X, at_least_db=100)
    assert result.graph.layers[-1].host


@pytest.mark.parametrize("operator", sorted(set(BROADCAST) - LOGIC))
@pytest.mark.parametrize("other", [X, ["N", 1, 6, 1]])
def test_two_tensors(proven, operator, other) -> None:
    nodes = [op("Sigmoid", "z", "s"), op("Softmax", "x", "t"), op(operator, "t s")]
    result = proven(nodes, {"x": X, "z": other}, at_least_db=100)
    assert result.graph.layers[-1].host


@pytest.mark.parametrize("operator", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparisons_give_numbers(proven, operator) -> None:
    nodes = [op(operator, "x k", "c"), op("Not", "c", "n"), op("Cast", "n", to=1)]
    proven(nodes, X, {"k": 0.1})


def test_choice_by_truth(proven) -> None:
    nodes = [
        *(op("Greater", "x k", "a"), op("Less", "x j", "b"), op("Or", "a b", "c"), op("Xor", "c b", "d")),
        *(op("And", "d c", "e"), op("Where", "e x k")),
    ]
    assert proven(nodes, X, {"k": 0.3, "j": -0.3}).graph.coverage().accelerator_layers == 0


@pytest.mark.parametrize("operator", REDUCTIONS)
@pytest.mark.parametrize("axes", [[1], [-1], [1, 3], [0, 2]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(proven, operator, axes, keepdims) -> None:
    nodes = [op("Sigmoid", "x", "s")]
    if operator == "ReduceSum":
        proven([*nodes, op(operator, "s a", keepdims=keepdims)], X, {"a": ints(*axes)}, at_least_db=100)
    proven([*nodes, op(operator, "s", axes=axes, keepdims=keepdims)], [1, *X[1:]], opset=12, at_least_db=100)


def test_indices_of_the_largest(proven) -> None:
    for keepdims in (0, 1):
        nodes = [op("ArgMax", "x", "a", axis=1, keepdims=keepdims), op("Cast", "a", to=1)]
        assert kinds(proven(nodes, X)) == ["host_op"]


def test_divisions_of_integers_cut_off(proven) -> None:
    """The row of an index, as decoders of heat maps work it out."""
    nodes = [
        op("ArgMax", "x", "a", axis=1, keepdims=0),
        op("Cast", "a", "i", to=6),
        op("Div", "i n", "row"),
        op("Cast", "row", to=1),
    ]
    assert "activation" not in kinds(proven(nodes, ["N", 12], {"n": np.asarray([5], np.int32)}))


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("indices", [ints(2, 0, 0), ints(2, 0), np.asarray([[0, 2], [1, 1]])])
def test_gather_in_any_order(proven, axis, indices) -> None:
    assert {"slice", "concat"} <= set(kinds(proven(op("Gather", "x i", axis=axis), X, {"i": indices})))


def test_gather_of_columns_of_windows(proven) -> None:
    """As torch's unfold is exported: [place in the window, window], slices by the stride."""
    indices = np.arange(4)[:, None] + 4 * np.arange(8)[None, :]
    result = proven(op("Gather", "x i", axis=3), ["N", 3, 2, 32], {"i": indices})
    assert sorted(kinds(result)) == ["concat", "reshape"] + 4 * ["slice"]


def test_gather_of_many_pieces(proven) -> None:
    indices = np.arange(100)[::-1].copy()
    result = proven(op("Gather", "x i", axis=1), ["N", 100, 2, 2], {"i": indices})
    assert kinds(result) == ["host_op"]
    assert "at most 64 runs" in next(iter(result.host_reasons.values()))


def test_normalizations_of_host_tensors_stay_operators(proven) -> None:
    """Where its input is on the host already, the operator as it is does better than the layers that it would be."""
    constants = {"s": weights(7), "b": weights(7, seed=1), "t": weights(4)}
    nodes = [
        op("Softmax", "x", "h"),
        op("LayerNormalization", "h s b", "l"),
        op("InstanceNormalization", "l t t"),
    ]
    assert kinds(proven(nodes, X, constants)) == ["softmax", "host_op", "host_op"]


def test_a_written_out_normalization_behind_the_host_stays_as_it_is(proven) -> None:
    constants = {"s": weights(7), "b": weights(7, seed=1), "two": 2, "e": 1e-5}
    nodes = [
        *(op("Softmax", "x", "h"), op("ReduceMean", "h", "m", axes=[-1]), op("Sub", "h m", "d")),
        *(op("Pow", "d two", "p"), op("ReduceMean", "p", "v", axes=[-1]), op("Add", "v e", "w")),
        *(op("Sqrt", "w", "r"), op("Div", "d r", "n"), op("Mul", "n s", "g"), op("Add", "g b")),
    ]
    result = proven(nodes, ["N", 5, 7], constants)
    assert result.graph.coverage().accelerator_layers == 0
    assert len(of_kind(result, "host_op")) == 6 and len(of_kind(result, "activation")) == 1
    assert list(result.host_reasons) == [result.graph.layers[1].name]


def test_other_normalizations(proven) -> None:
    assert kinds(proven(op("LpNormalization", "x", axis=1), X)) == ["host_op"]
    assert kinds(proven(op("LogSoftmax", "x", axis=1), X)) == ["host_op"]


def test_repetition_of_what_is_on_the_host(proven) -> None:
    for node in (op("Expand", "h s"), op("Tile", "h r")):
        nodes = [op("Softmax", "x", "h"), node]
        constants = {"s": ints(1, 4, 6, 1), "r": ints(1, 2, 1, 3)}
        assert kinds(proven(nodes, ["N", 4, 1, 7], constants)) == ["softmax", "host_op"]
    assert kinds(proven(op("Tile", "x r"), X, {"r": ints(1, 13, 5, 1)})) == ["host_op"]


def test_what_follows_a_host_layer_is_on_the_host_and_the_rest_is_not(proven) -> None:
    nodes = [
        *(op("Conv", "x w", "a"), op("Relu", "a", "r"), op("ReduceMin", "r", "m", axes=[1])),
        *(op("Sub", "r m", "d"), op("Conv", "r w2", "b"), op("Conv", "d w2", "c"), op("Add", "b c")),
    ]
    result = proven(nodes, X, {"w": weights(5, 4, 1, 1), "w2": weights(3, 5, 1, 1, seed=1)})
    graph = result.graph
    assert [layer.host for layer in graph.layers[1:]] == [False, True, True, False, True, True]
    assert graph.accelerator_outputs() == ("conv1", "conv2")
    assert list(result.host_reasons) == ["host1"] and "ReduceMin_m" in result.host_reasons["host1"]
    coverage = graph.coverage()
    assert coverage.layers == 6 and coverage.accelerator_layers == 2
    assert coverage.macs_percent == pytest.approx(100 * (20 + 15) / (20 + 15 + 15))


def test_a_square_that_only_the_host_reads_is_left_to_it(proven) -> None:
    """However it is written; a product of two tensors is not."""
    for square in (op("Pow", "c two", "s"), op("Mul", "c c", "s")):
        nodes = [op("Conv", "x w", "c"), square, op("Softmax", "s")]
        result = proven(nodes, X, {"w": weights(5, 4, 1, 1), "two": 2})
        assert [layer.name for layer in result.graph.layers if not layer.host] == ["input_layer1", "conv1"]
    nodes = [op("Conv", "x w", "c"), op("Conv", "x v", "d"), op("Mul", "c d", "m"), op("Softmax", "m")]
    result = proven(nodes, X, {"w": weights(5, 4, 1, 1), "v": weights(5, 4, 3, 3, seed=1)[:, :, :1, :1]})
    assert not of_kind(result, "mul")[0].host


def test_box_decoding_runs_on_the_host(proven) -> None:
    """Scaled offsets times priors plus priors, as detectors write it: all behind the convolution is the host's."""
    nodes = [
        *(
            op("Conv", "x w", "c"),
            op("Transpose", "c", "t", perm=[0, 2, 3, 1]),
            op("Reshape", "t shape", "o"),
        ),
        *(op("Mul", "o tenth", "s"), op("Exp", "s", "e"), op("Mul", "e size", "b"), op("Add", "b place")),
    ]
    constants = {"w": weights(4, 4, 1, 1), "shape": ints(1, -1, 4), "tenth": 0.1}
    constants |= {"size": weights(1, 42, 4), "place": weights(1, 42, 4, seed=1)}
    result = proven(nodes, X, constants)
    assert [layer.name for layer in result.graph.layers if not layer.host] == ["input_layer1", "conv1"]
    assert "differ from place to place" in next(iter(result.host_reasons.values()))


def head(level: str) -> list:
    """Boxes, a confidence and a class's score of one level, joined and laid flat as YOLOX has them."""
    return [
        *(op("Conv", f"{level} w", f"box_{level}"), op("Conv", f"{level} w1", f"c_{level}")),
        *(op("Conv", f"{level} w1", f"d_{level}"), op("Sigmoid", f"c_{level}", f"sure_{level}")),
        *(op("Sigmoid", f"d_{level}", f"class_{level}"),),
        op("Concat", f"box_{level} sure_{level} class_{level}", f"all_{level}", axis=1),
        op("Reshape", f"all_{level} flat", f"flat_{level}"),
    ]


HEADS = [
    *(op("Conv", "x v", "a"), op("MaxPool", "a", "b", kernel_shape=[2, 2], strides=[2, 2])),
    *(*head("a"), *head("b"), op("Concat", "flat_a flat_b", "both", axis=2)),
]
CONSTANTS = {"v": weights(5, 4, 3, 3), "flat": ints(0, 6, -1)}
CONSTANTS |= {"w": weights(4, 5, 1, 1), "w1": weights(1, 5, 1, 1, seed=1)}


@pytest.mark.parametrize("last", [op("Transpose", "both", perm=[0, 2, 1]), op("Sigmoid", "both")])
def test_what_different_layers_computed_is_joined_on_the_host(proven, last) -> None:
    graph = proven([*HEADS, last], X, CONSTANTS).graph
    kinds_of_outputs = [graph[name].kind for name in graph.accelerator_outputs()]
    assert sorted(kinds_of_outputs) == ["activation"] * 4 + ["conv"] * 2
    assert {layer.kind for layer in graph.layers if layer.host} >= {"concat", "reshape"}
    assert graph.coverage().macs_percent == 100


def test_the_host_may_read_what_is_joined_too(proven) -> None:
    nodes = [*HEADS, op("Transpose", "both", perm=[0, 2, 1]), op("Round", "both", "decoded")]
    assert len(proven(nodes, X, CONSTANTS, outputs=("y", "decoded")).graph.accelerator_outputs()) == 6


@pytest.mark.parametrize(
    "last",
    [
        op("Conv", "both3 k"),  # it goes on
        op("Relu", "both3"),  # bounds are integers' own
    ],
)
def test_what_is_not_only_joined_stays_in_integers(proven, last) -> None:
    nodes = [*HEADS, op("Unsqueeze", "both axes", "both3"), last]
    constants = CONSTANTS | {"axes": ints(2), "k": weights(2, 6, 1, 1)}
    assert not any(layer.host for layer in proven(nodes, X, constants, opset=13).graph.layers)


def test_pieces_of_one_tensor_are_joined_in_integers(proven) -> None:
    nodes = [
        op("Conv", "x w", "c"),
        op("MaxPool", "c", "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        op("Concat", "c m", axis=1),
    ]
    assert not any(layer.host for layer in proven(nodes, X, {"w": weights(4, 4, 1, 1)}).graph.layers)


def test_constants_by_place_before_a_convolution_are_no_box_decoding(proven) -> None:
    """A mean image is subtracted on the accelerator."""
    nodes = [op("Sub", "x mean", "d"), op("Conv", "d w")]
    result = proven(nodes, X, {"mean": weights(1, 4, 6, 7), "w": weights(2, 4, 3, 3)})
    assert not any(layer.host for layer in result.graph.layers)


def test_a_host_layer_knows_its_place_and_survives_json(proven) -> None:
    graph = proven(op("MatMul", "x w"), X, {"w": weights(4, 7, 3)}).graph
    assert Graph.from_dict(graph.to_dict()) == graph
    with pytest.raises(ValueError, match="runs on the host alone"):
        HostOp(name="a", inputs=(), shape=(1,), operator="Exp")


def test_every_host_operator_says_what_it_is() -> None:
    assert all(rule.convert.__doc__ for rule in RULES.values())

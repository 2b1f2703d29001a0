"""Products of tensors as matrices, the softmaxes that weigh tensors, and constants beside tensors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.parser.networks import kinds, op, weights

from mz.errors import UserError
from mz.graph import MatMul, Mul

X = ["N", 4, 6, 7]
SHAPES = (
    ([1, 3, 5, 6], [1, 3, 6, 2]),
    ([1, 5, 6], [1, 6, 2]),
    ([2, 5, 6], [1, 6, 2]),
    ([1, 1, 5, 6], [4, 6, 2]),
)


def ints(*values: int) -> np.ndarray:
    return np.asarray(values)


def of_kind(result, kind: str) -> list:
    return [layer for layer in result.graph.layers if layer.kind == kind]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_products_of_tensors(proven, left, right) -> None:
    nodes = [op("Reshape", "x l", "a"), op("Reshape", "z r", "b"), op("MatMul", "a b")]
    inputs = {"x": [1, int(np.prod(left))], "z": [1, int(np.prod(right))]}
    result = proven(nodes, inputs, {"l": ints(*left), "r": ints(*right)})
    (product,) = of_kind(result, "matmul")
    coverage = result.graph.coverage()
    assert coverage.macs == np.prod(product.shape) * left[-1] and coverage.macs_percent == 100


def test_products_that_do_not_fit_are_refused(proven) -> None:
    with pytest.raises(UserError, match=r"inner ones are of one size \(here \[1, 4, 5\] times \[1, 4, 5\]\)"):
        proven(op("MatMul", "x z"), {"x": ["N", 4, 5], "z": ["N", 4, 5]})


@pytest.mark.parametrize("matrix", [(5, 6), (1, 1, 5, 6)])
def test_a_constant_matrix_in_front_is_a_dense_layer(proven, matrix) -> None:
    nodes = [op("Relu", "x", "r"), op("MatMul", "w r")]
    result = proven(nodes, X, {"w": weights(*matrix)})
    assert kinds(result) == ["activation", "transpose", "dense", "transpose"]


def test_behind_the_host_a_product_stays_as_it_is(proven) -> None:
    nodes = [op("Softmax", "x", "s"), op("MatMul", "w s")]
    assert kinds(proven(nodes, X, {"w": weights(5, 6)})) == ["softmax", "host_op"]
    nodes = [op("Softmax", "x", "s"), op("Sigmoid", "x", "t"), op("Transpose", "t", "u", perm=[0, 1, 3, 2])]
    result = proven([*nodes, op("Exp", "s", "e"), op("MatMul", "e u")], X)
    assert all(layer.host for layer in of_kind(result, "matmul"))


@pytest.mark.parametrize("stack", [(4,), (1, 4), (6, 1), (4, 6)])
@pytest.mark.parametrize("first", [False, True])
def test_a_stack_of_constant_matrices_is_a_grouped_convolution(proven, stack, first) -> None:
    shape = [1, 4, 6, 5, 7] if stack == (4, 6) else [1, 6, 4, 5, 7]
    constant = weights(*stack, 3, 5) if first else weights(*stack, 7, 3)
    result = proven(op("MatMul", "w x" if first else "x w"), shape, {"w": constant})
    assert kinds(result).count("conv") == 1 and result.graph.coverage().layers_percent == 100
    assert result.graph.coverage().macs == 24 * 5 * 7 * 3


def test_a_stack_that_enlarges_is_the_hosts(proven) -> None:
    result = proven(op("MatMul", "x w"), [1, 1, 5, 7], {"w": weights(4, 7, 3)})
    assert kinds(result) == ["host_op"]
    assert "one matrix for each place of axes of the other input" in next(iter(result.host_reasons.values()))


@pytest.mark.parametrize("where", ["before", "second", "behind"])
def test_a_factor_goes_into_the_product(proven, where) -> None:
    nodes = {
        "before": [op("Mul", "x f", "q"), op("Transpose", "q", "a", perm=[0, 1, 3, 2]), op("MatMul", "a z")],
        "second": [op("Div", "z f", "b"), op("Transpose", "x", "a", perm=[0, 1, 3, 2]), op("MatMul", "a b")],
        "behind": [
            *(op("Transpose", "x", "a", perm=[0, 1, 3, 2]), op("MatMul", "a z", "p")),
            *(op("Reshape", "p s", "t"), op("Mul", "t f")),
        ],
    }[where]
    result = proven(nodes, {"x": X, "z": X}, {"f": 0.125, "s": ints(1, 4, 49)})
    assert "conv" not in kinds(result)
    (product,) = of_kind(result, "matmul")
    assert product.factor == (8.0 if where == "second" else 0.125)


def test_a_bias_of_places_stays_behind_the_factor(proven) -> None:
    nodes = [op("Transpose", "x", "a", perm=[0, 1, 3, 2]), op("MatMul", "a z", "p"), op("Mul", "p f", "q")]
    nodes += [op("Add", "q b", "r"), op("MatMul", "r w")]
    result = proven(nodes, {"x": X, "z": X}, {"f": 0.125, "b": weights(4, 7, 7), "w": weights(7, 3, seed=1)})
    (product,) = of_kind(result, "matmul")
    (bias,) = of_kind(result, "conv")
    assert product.factor == 0.125
    assert np.all(result.params[bias.name]["kernel"] == 1)


@pytest.mark.parametrize("factor", [-0.5, 1.0, [[0.5], [0.25], [1], [2], [3], [4]]])
def test_other_factors_stay(proven, factor) -> None:
    nodes = [op("Mul", "x f", "q"), op("Transpose", "q", "a", perm=[0, 1, 3, 2]), op("MatMul", "a z")]
    result = proven(nodes, {"x": X, "z": X}, {"f": np.asarray(factor, np.float32)})
    assert [layer.factor for layer in of_kind(result, "matmul")] == [1.0]


def attention(axis: int = -1) -> list:
    """q, k, v of 4 heads with 6 channels at 7 places."""
    return [
        *(op("Transpose", "x", "q", perm=[0, 1, 3, 2]), op("MatMul", "q z", "s")),
        *(op("Mul", "s f", "m"), op("Softmax", "m", "p", axis=axis), op("Sigmoid", "q", "v")),
    ]


@pytest.mark.parametrize(
    "mask",
    [op("Add", "s least", "m"), op("Where", "seen s lowest", "m"), op("Where", "hidden lowest s", "m")],
)
def test_places_that_a_mask_leaves_out_hold_one_number(proven, mask) -> None:
    nodes = [mask if node.output[0] == "m" else node for node in attention()]
    seen = np.tri(7, 7, dtype=np.bool_)
    least = np.where(seen, 0, np.finfo(np.float32).min).astype(np.float32)
    constants = {"f": 1, "seen": seen, "hidden": ~seen, "least": least, "lowest": -np.inf}
    result = proven([*nodes, op("MatMul", "p v")], {"x": X, "z": X}, constants)
    assert not any(layer.host for layer in result.graph.layers)
    assert all(np.abs(array).max() <= 100 for arrays in result.params.values() for array in arrays.values())


def test_attention_that_is_mixed_and_divided_again(proven) -> None:
    """As ConViT weighs its softmax against constants of places."""
    mixed = [
        *(op("Mul", "p g", "m2"), op("Add", "m2 c", "a"), op("ReduceSum", "a last", "n")),
        *(op("Div", "a n", "d"), op("MatMul", "d v")),
    ]
    constants = {"f": 0.4, "g": 0.7, "c": np.abs(weights(4, 7, 7)), "last": ints(-1)}
    result = proven([*attention(), *mixed], {"x": X, "z": X}, constants)
    assert not any(layer.host for layer in result.graph.layers)


def test_attention_is_divided_behind_its_product(proven) -> None:
    result = proven([*attention(), op("MatMul", "p v")], {"x": X, "z": X}, {"f": 1 / math.sqrt(6)})
    assert not any(layer.host for layer in result.graph.layers)
    scores, product = of_kind(result, "matmul")
    last = result.graph.layers[-1]
    assert isinstance(last, Mul) and product.name in last.inputs
    assert result.graph[product.inputs[0]].function == "exp"
    assert scores.factor == pytest.approx(1 / math.sqrt(6))


def test_weights_that_come_second_or_transposed(proven) -> None:
    """v^T p^T, and p^T v, whose sums run over the places that are multiplied."""
    turned = op("Transpose", "p", "t", perm=[0, 1, 3, 2])
    places = op("Transpose", "v", "u", perm=[0, 1, 3, 2])
    inputs, numbers = {"x": X, "z": X}, {"f": 0.3}
    for nodes, divided_last in (
        ([*attention(), turned, places, op("MatMul", "u t")], True),
        ([*attention(2), places, op("MatMul", "u p")], True),
        ([*attention(), turned, op("MatMul", "t v")], False),
        ([*attention(2), op("MatMul", "p v")], False),
        ([*attention(), op("Dropout", "p", "d"), op("MatMul", "d v")], True),
    ):
        result = proven(nodes, inputs, numbers)
        assert not any(layer.host for layer in result.graph.layers)
        assert isinstance(result.graph.layers[-1], Mul if divided_last else MatMul)


def test_heads_that_constants_mix(proven) -> None:
    mixed = [*attention(), op("Conv", "p w b", "c"), op("MatMul", "c v")]
    result = proven(mixed, {"x": X, "z": X}, {"f": 0.3, "w": weights(4, 4, 1, 1), "b": weights(4)})
    assert not any(layer.host for layer in result.graph.layers)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmaxes_of_any_axis_weigh_tensors(proven, axis, opset) -> None:
    """Branches between which a softmax chooses, with more weights behind them."""
    nodes = [op("Softmax", "x", "s", axis=axis), op("Mul", "s z", "m"), op("Conv", "m w")]
    result = proven(nodes, {"x": X, "z": X}, {"w": weights(3, 4, 1, 1)}, opset=opset)
    assert result.graph.coverage().layers_percent == 100


@pytest.mark.parametrize(
    "nodes",
    [
        [op("Softmax", "x", "s", axis=1), op("Conv", "s w")],  # the expected distance of a detector's box
        [op("Softmax", "x", "s"), op("MatMul", "s u")],
        [op("Softmax", "x", "s"), op("Mul", "s two", "m"), op("Conv", "m w")],
        [
            op("Softmax", "x", "s"),
            op("Mul", "s z"),
        ],  # scores times another head's: nothing with weights follows
    ],
)
def test_a_softmax_that_weighs_constants_or_ends_the_network_is_the_hosts(proven, nodes) -> None:
    inputs = {name: X for name in "xz" if any(name in node.input for node in nodes)}
    result = proven(nodes, inputs, {"w": weights(3, 4, 1, 1), "u": weights(7, 3), "two": 2})
    assert {layer.kind for layer in result.graph.layers if layer.host} & {"softmax"}


@pytest.mark.parametrize("order", ["c x", "x c", "c x d", "x c z d", "c c x"])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_constants_beside_tensors(proven, order, axis) -> None:
    shape = list(X)
    shape[axis] = 2
    constants = {name: weights(1, *shape[1:], seed=seed) for seed, name in enumerate("cd") if name in order}
    inputs = {name: X for name in "xz" if name in order}
    result = proven(
        [op("Concat", order, "j", axis=axis), op("Conv", "j w")], inputs, constants | head(axis, order)
    )
    assert result.graph.coverage().layers_percent == 100
    assert ("concat" in kinds(result)) == ("z" in order)


def head(axis: int, order: str) -> dict[str, np.ndarray]:
    channels = sum(2 if name in "cd" else 4 for name in order.split()) if axis == 1 else 4
    return {"w": weights(3, channels, 1, 1, seed=5)}


def test_a_class_token_and_positions_are_one_sum(proven) -> None:
    nodes = [
        *(op("Reshape", "x s", "t"), op("Concat", "c t", "j", axis=1), op("Add", "j p", "a")),
        *(op("MatMul", "a w", "b"), op("Gather", "b first", "g", axis=1), op("Relu", "g")),
    ]
    constants = {"s": ints(1, 24, 7), "c": weights(1, 1, 7), "p": weights(1, 25, 7, seed=1)}
    result = proven(nodes, X, constants | {"w": weights(7, 5, seed=2), "first": np.asarray(0)})
    assert len(of_kind(result, "conv")) == 1 and len(of_kind(result, "pad")) == 1


def test_constants_do_not_join_the_batch(proven) -> None:
    with pytest.raises(UserError, match="The axis is not the batch axis"):
        proven(op("Concat", "x c", axis=0), X, {"c": weights(1, 4, 6, 7)})


@pytest.mark.parametrize(
    ("shape", "node", "numbers", "found"),
    [
        (["N", 4, 1, 7], op("Expand", "x n"), (1, 4, 6, 1), {"resize"}),
        (["N", 4, 1, 1], op("Expand", "x n"), (1, 4, 60, 50), {"resize"}),
        (["N", 4, 7], op("Expand", "x n"), (5, 1, 4, 7), {"resize"}),
        (X, op("Tile", "x n"), (1, 2, 1, 3), {"concat"}),
        (X, op("Tile", "x n"), (4, 1, 1, 1), {"resize"}),
    ],
)
def test_copies_of_a_tensor(proven, shape, node, numbers, found) -> None:
    result = proven(node, [1, *shape[1:]], {"n": ints(*numbers)})
    assert set(kinds(result)) - {"reshape"} == found


def test_an_expand_that_changes_nothing_is_left_out(proven) -> None:
    assert kinds(proven([op("Expand", "x s", "e"), op("Relu", "e")], X, {"s": ints(1)})) == ["activation"]

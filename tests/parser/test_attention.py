"""The operator Attention of opset 23, as PyTorch exports it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.parser.networks import kinds, op, weights

from mz.errors import UserError

QUERIES, KEYS = [1, 4, 6, 8], [1, 4, 5, 8]


def attention(inputs: str = "q k v", **attributes: Any) -> Any:
    return op("Attention", inputs, **attributes)


@pytest.mark.parametrize("mask", [None, (6, 5), (1, 6, 5), (4, 6, 5), (1, 4, 6, 5)])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("shared", [4, 2, 1])
def test_heads_apart(proven, mask, scale, shared) -> None:
    node = attention("q k v mask" if mask else "q k v", **({"scale": scale} if scale else {}))
    constants = {"mask": weights(*mask)} if mask else {}
    inputs = {"q": QUERIES, "k": [1, shared, 5, 8], "v": [1, shared, 5, 7]}
    result = proven(node, inputs, constants, opset=23)
    assert kinds(result).count("matmul") == 2 and result.graph.coverage().layers_percent == 100


@pytest.mark.parametrize("shared", [4, 2])
@pytest.mark.parametrize("mask", [None, (1, 4, 6, 5)])
def test_heads_side_by_side(proven, shared, mask) -> None:
    node = attention("q k v mask" if mask else "q k v", q_num_heads=4, kv_num_heads=shared)
    inputs = {"q": [1, 6, 32], "k": [1, 5, 8 * shared], "v": [1, 5, 7 * shared]}
    result = proven(node, inputs, {"mask": weights(*mask)} if mask else {}, opset=23)
    assert kinds(result).count("matmul") == 2 and result.graph.coverage().layers_percent == 100


def test_windows_in_the_place_of_the_batch(proven) -> None:
    windows = [op("Reshape", "x shape", "w"), attention("w w w", q_num_heads=2, kv_num_heads=2)]
    result = proven(windows, [1, 12, 8], {"shape": np.array([3, 4, 8])}, opset=23)
    assert not any(layer.host for layer in result.graph.layers)


MASKS = {
    "bool": np.tri(6, 5, dtype=np.bool_),
    "infinite": np.where(np.tri(6, 5), weights(6, 5), -np.inf).astype(np.float32),
    "least": np.where(np.tri(6, 5), 0, np.finfo(np.float32).min).astype(np.float32),
}


@pytest.mark.parametrize("mask", [None, *MASKS])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("shared", [4, 2])
def test_places_left_out(proven, mask, causal, shared) -> None:
    node = attention("q k k mask" if mask else "q k k", is_causal=causal)
    inputs, constants = {"q": QUERIES, "k": [1, shared, 5, 8]}, {"mask": MASKS[mask]} if mask else {}
    result = proven(node, inputs, constants, opset=23)
    assert not any(layer.host for layer in result.graph.layers)
    for arrays in result.params.values():
        assert all(np.abs(array).max() <= 100 for array in arrays.values())


def test_a_mask_that_the_network_computes(proven) -> None:
    proven(attention("q k v m"), {"q": QUERIES, "k": KEYS, "v": KEYS, "m": [1, 4, 6, 5]}, opset=23)


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ("q k k m", {"is_causal": 1}, r"The mask is absent or a constant; .* \(here a tensor\)"),
        ("q k k", {"softcap": 2.0}, r"Scores are not bent by a softcap \(here softcap 2.0\)"),
        ("q k k _ k k", {}, r"none of them remembered from a past run \(here inputs \[0, 1, 2, 4, 5\]"),
        ("t t t", {}, r"attributes that tell the number of heads"),
        ("q past past", {}, r"Queries, keys and values are tensors of the network"),
    ],
)
def test_others_are_refused(proven, inputs, attributes, message) -> None:
    shapes = {"q": QUERIES, "k": KEYS, "t": [1, 6, 8], "m": [1, 4, 6, 5]}
    constants = {"past": weights(*KEYS)}
    used = {name: shapes[name] for name in shapes if name in inputs.split()}
    with pytest.raises(UserError, match=message):
        proven(attention(inputs, **attributes), used, constants, opset=23)

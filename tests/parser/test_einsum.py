"""Einsum as a product of matrices."""

from __future__ import annotations

import pytest
from tests.parser.networks import kinds, op, weights

from mz.errors import UserError

SIZES = {"b": 1, "h": 4, "i": 6, "j": 5, "d": 7, "e": 3, "c": 2}


def shape(term: str) -> list[int]:
    return [SIZES[letter] for letter in term]


@pytest.mark.parametrize(
    "equation",
    [
        *("bhid,bhjd->bhij", "bhij,bhjd->bhid", "bhid,bhjd->bijh", "bhdi,bhjd->bhij", "bid,bjd->bij"),
        *(
            "bihd,bjhd->bhij",
            "bhij , bjhd -> bihd",
            "bhid,bjd->bhij",
            "bij,bjd",
            "bchi,bchj->bij",
            "bhi,bhj->bhij",
        ),
    ],
)
def test_products_of_tensors(proven, equation) -> None:
    left, right = equation.replace(" ", "").partition("->")[0].split(",")
    nodes = [op("Relu", "x", "r"), op("Einsum", "r z", equation=equation)]
    result = proven(nodes, {"x": shape(left), "z": shape(right)})
    assert kinds(result).count("matmul") == 1 and result.graph.coverage().layers_percent == 100


@pytest.mark.parametrize(("equation", "found"), [("bhid,de->bhie", "dense"), ("bhid,hdec->bhiec", "conv")])
def test_products_with_constants(proven, equation, found) -> None:
    left, right = equation.partition("->")[0].split(",")
    nodes = [op("Relu", "x", "r"), op("Einsum", "r w", equation=equation)]
    assert found in kinds(proven(nodes, shape(left), {"w": weights(*shape(right))}))


def test_attention(proven) -> None:
    nodes = [
        *(op("Einsum", "x z", "s", equation="bhid,bhjd->bhij"), op("Softmax", "s", "p", axis=-1)),
        op("Einsum", "p z", equation="bhij,bhjd->bhid"),
    ]
    result = proven(nodes, {"x": shape("bhid"), "z": shape("bhjd")})
    assert not any(layer.host for layer in result.graph.layers)


@pytest.mark.parametrize(
    "equation", ["bhid,bhid->bh...", "bhid->bhdi", "bhii,bhid->bhid", "bhid,bhjd->bhi", "hid,bhjd->bhij"]
)
def test_others_are_refused(proven, equation) -> None:
    count = equation.count(",") + 1
    inputs = {name: [1, 4, 6, 6] for name in "xz"[:count]}
    with pytest.raises(UserError, match=r"Einsum Einsum_y: (It has two inputs|Each letter stands once)"):
        proven(op("Einsum", " ".join(inputs), equation=equation), inputs)

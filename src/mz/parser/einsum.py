"""Einsum of two operands, of which one may be a constant: transposes and reshapes around a product of matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from mz.parser.draft import Draft
from mz.parser.matrices import RULES as MATRICES
from mz.parser.movement import permuted, reshape_to
from mz.parser.node import Node, Operand, Rule, Value


def two_operands(node: Node) -> str | None:
    """It has two inputs, of which one at least is a tensor of the network."""
    tensors = sum(isinstance(operand, Value) for operand in node.inputs)
    return (
        None if len(node.inputs) == 2 and tensors else f"{len(node.inputs)} inputs, {tensors} of them tensors"
    )


def a_product_of_matrices(node: Node) -> str | None:
    """Each letter stands once in an input, for one size, and in the other input or in the output."""
    equation = node.attribute("equation")
    left, right, out = _terms(node)
    once = all(len(set(term)) == len(term) and term.isalpha() for term in (left, right, out))
    kept = set(left) ^ set(right) <= set(out) <= set(left) | set(right)
    return None if once and kept and _sizes(node) is not None else f"{equation}"


def einsum(node: Node, draft: Draft) -> Value:
    """A product of matrices, with transposes and reshapes around it."""
    left, right, out = _terms(node)
    sizes = _sizes(node)
    assert sizes is not None
    shared = [letter for letter in left if letter in right and letter in out]
    summed = [letter for letter in left if letter in right and letter not in out]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    operands = []
    for operand, term, parts in (
        (node.inputs[0], left, (rows, summed)),
        (node.inputs[1], right, (summed, columns)),
    ):
        order = [*shared, *parts[0], *parts[1]]
        shape = [sizes[letter] for letter in shared] + [_size(sizes, part) for part in parts]
        operands.append(_arranged(node, draft, operand, [term.index(letter) for letter in order], shape))
    made = MATRICES["MatMul"].apply(node.part("MatMul", *operands), draft)
    found_order = [*shared, *rows, *columns]
    apart = reshape_to(made, [sizes[letter] for letter in found_order], draft, node.name)
    return permuted(apart, [found_order.index(letter) for letter in out], draft, node.name)


def _terms(node: Node) -> tuple[str, str, str]:
    inputs, arrow, out = node.attribute("equation").replace(" ", "").partition("->")
    left, _, right = inputs.partition(",")
    if not arrow:
        out = "".join(sorted(letter for letter in set(left + right) if (left + right).count(letter) == 1))
    return left, right, out


def _sizes(node: Node) -> dict[str, int] | None:
    """By letter; None where one stands for two sizes, or an input has other axes than its term."""
    sizes: dict[str, int] = {}
    for operand, term in zip(node.inputs, _terms(node), strict=False):
        assert operand is not None
        if len(operand.shape) != len(term):
            return None
        for letter, size in zip(term, operand.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                return None
    return sizes


def _size(sizes: Mapping[str, int], letters: Iterable[str]) -> int:
    return math.prod(sizes[letter] for letter in letters)


def _arranged(node: Node, draft: Draft, operand: Operand, order: list[int], shape: list[int]) -> Operand:
    if isinstance(operand, np.ndarray):
        return operand.transpose(order).reshape(shape)
    assert operand is not None
    return reshape_to(permuted(operand, order, draft, node.name), shape, draft, node.name)


RULES = {"Einsum": Rule(einsum, (two_operands, a_product_of_matrices))}

"""Attention (opset 23): the products of matrices and the softmax that it stands for."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mz.parser import elementwise, matrices, softmax
from mz.parser.draft import Draft
from mz.parser.movement import permuted, reshape_to
from mz.parser.node import Node, Operand, Rule, Value, first_output_only

PARTS = {**elementwise.RULES, **matrices.RULES, **softmax.RULES}


def three_tensors(node: Node) -> str | None:
    """Queries, keys and values are tensors of the network, none of them remembered from a past run."""
    given = [place for place, operand in enumerate(node.inputs) if operand is not None and place != 3]
    tensors = [place for place in range(3) if isinstance(node.operand(place), Value)]
    return None if given == tensors == [0, 1, 2] else f"inputs {given}, of which {tensors} are tensors"


def heads_told(node: Node) -> str | None:
    """They have four axes, or three and attributes that tell the number of heads, which the keys' divides."""
    ranks = {len(node.value(place).shape) for place in range(3)}
    heads, shared = _heads(node)
    return None if ranks in ({3}, {4}) and heads and shared and heads % shared == 0 else f"ranks {ranks}"


def constant_mask(node: Node) -> str | None:
    """The mask is absent or a constant; a tensor where heads share no keys, and it is not causal."""
    mask, (heads, shared) = node.operand(3), _heads(node)
    plain = heads == shared and not node.attribute("is_causal", 0)
    return "a tensor" if isinstance(mask, Value) and not plain else None


def no_softcap(node: Node) -> str | None:
    """Scores are not bent by a softcap."""
    cap = node.attribute("softcap", 0.0)
    return f"softcap {cap}" if cap else None


def attention(node: Node, draft: Draft) -> Value:
    """Two products of matrices and a softmax between them, written out; reshapes and transposes around it where heads
    lie side by side. Heads that share keys are rows of one product.
    """
    heads, shared = _heads(node)
    flat = len(node.x.shape) == 3
    parts = [node.value(place) for place in range(3)]
    if flat:
        parts = [
            _apart(node, draft, part, count)
            for part, count in zip(parts, (heads, shared, shared), strict=True)
        ]
    queries, keys, values = parts
    batch, _, rows, width = queries.shape
    scale = np.float32(node.attribute("scale") or 1 / math.sqrt(width))
    if heads != shared:
        queries = reshape_to(queries, (batch, shared, heads // shared * rows, width), draft, node.name)
    scores = _apply(node, draft, "MatMul", queries, permuted(keys, (0, 1, 3, 2), draft, node.name))
    scores = _apply(node, draft, "Mul", scores, scale.reshape(1))
    mask = _mask(node, (rows, keys.shape[2]))
    if isinstance(mask, np.ndarray) and heads != shared:
        mask = np.broadcast_to(mask, (batch, heads, rows, mask.shape[-1])).reshape(scores.shape)
    if mask is not None:
        scores = _apply(node, draft, "Add", scores, mask)
    found = _apply(node, draft, "MatMul", _apply(node, draft, "Softmax", scores, axis=-1), values)
    found = reshape_to(found, (batch, heads, rows, values.shape[-1]), draft, node.name)
    if not flat:
        return found
    beside = permuted(found, (0, 2, 1, 3), draft, node.name)
    return reshape_to(beside, (batch, rows, heads * values.shape[-1]), draft, node.name)


def _heads(node: Node) -> tuple[int, int]:
    """The number of heads of the queries, and of the keys and values; 0 where it is not told."""
    queries, keys = node.x.shape, node.value(1).shape
    if len(queries) == len(keys) == 4:
        return queries[1], keys[1]
    return node.attribute("q_num_heads", 0), node.attribute("kv_num_heads", 0)


def _mask(node: Node, places: tuple[int, int]) -> Operand:
    """What is added to the scores, -inf where a place is left out."""
    mask = node.operand(3)
    if isinstance(mask, np.ndarray) and mask.dtype == np.bool_:
        mask = np.where(mask, np.float32(0), -np.inf)
    if node.attribute("is_causal", 0):
        assert not isinstance(mask, Value)
        allowed = np.tri(*places, dtype=np.bool_)
        mask = np.where(allowed, np.float32(0) if mask is None else mask, -np.inf)
    return mask


def _apart(node: Node, draft: Draft, x: Value, heads: int) -> Value:
    """[batch, rows, heads * width] -> [batch, heads, rows, width]."""
    batch, rows, width = x.shape
    apart = reshape_to(x, (batch, rows, heads, width // heads), draft, node.name)
    return permuted(apart, (0, 2, 1, 3), draft, node.name)


def _apply(node: Node, draft: Draft, op_type: str, *inputs: Operand, **attributes: int) -> Value:
    part = node.part(op_type, *inputs, **attributes)
    known = dataclasses.replace(part, weighs=op_type == "Softmax", before_softmax=op_type == "Add")
    return PARTS[op_type].apply(known, draft)


RULES = {
    "Attention": Rule(attention, (three_tensors, heads_told, constant_mask, no_softcap, first_output_only))
}

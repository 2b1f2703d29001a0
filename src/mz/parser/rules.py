"""Every operator that the parser knows, and what the page of supported layers says about each."""

from __future__ import annotations

from collections.abc import Mapping

from mz.parser import (
    activations,
    attention,
    concat,
    convolution,
    einsum,
    elementwise,
    gathers,
    host,
    matrices,
    movement,
    normalization,
    pads,
    pooling,
    reductions,
    resizing,
    softmax,
)
from mz.parser.node import Rule, message

RULES: dict[str, Rule] = {
    **convolution.RULES,
    **matrices.RULES,
    **einsum.RULES,
    **attention.RULES,
    **normalization.RULES,
    **softmax.RULES,
    **activations.RULES,
    **elementwise.RULES,
    **concat.RULES,
    **pooling.RULES,
    **reductions.RULES,
    **movement.RULES,
    **gathers.RULES,
    **pads.RULES,
    **resizing.RULES,
}
"""By ONNX operator type. Shape, and operators over constants alone, are worked out and need no rule."""


HOST_RULES = host.RULES
"""By ONNX operator type: what runs on the host where `RULES` has nothing for a node."""


Row = tuple[str, str, list[str]]


def supported_operators() -> list[Row]:
    """(operator, what becomes of it, its constraints) for each that becomes layers, in alphabetical order."""
    return _rows(RULES)


def host_operators() -> list[Row]:
    """As `supported_operators`, for those that run on the host as they are."""
    return _rows(HOST_RULES)


def _rows(rules: Mapping[str, Rule]) -> list[Row]:
    rows = []
    for op_type, rule in sorted(rules.items()):
        assert rule.convert.__doc__
        what = " ".join(rule.convert.__doc__.split())
        rows.append((op_type, what, [message(constraint) for constraint in rule.constraints]))
    return rows

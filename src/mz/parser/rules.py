"""Every operator that the parser knows, and what the page of supported layers says about each."""

from __future__ import annotations

from mz.parser import activations, convolution, elementwise, movement, normalization, pooling
from mz.parser.node import Rule, message

RULES: dict[str, Rule] = {
    **convolution.RULES,
    **normalization.RULES,
    **activations.RULES,
    **elementwise.RULES,
    **pooling.RULES,
    **movement.RULES,
}
"""By ONNX operator type. Shape, and operators over constants alone, are worked out and need no rule."""


def supported_operators() -> list[tuple[str, str, list[str]]]:
    """(operator, what becomes of it, its constraints) for each operator, in alphabetical order."""
    rows = []
    for op_type, rule in sorted(RULES.items()):
        assert rule.convert.__doc__
        what = " ".join(rule.convert.__doc__.split())
        rows.append((op_type, what, [message(constraint) for constraint in rule.constraints]))
    return rows

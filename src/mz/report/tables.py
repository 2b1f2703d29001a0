"""Figures as text in columns. Imports nothing heavy: the command line stands on it."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], align: str = "") -> str:
    """Columns two spaces apart, indented by two; `align` holds `<` or `>` a column (all `<` if shorter)."""
    lines = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    sides = align.ljust(len(headings), "<")
    return "\n".join(
        (
            "  "
            + "  ".join(
                f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)
            )
        ).rstrip()
        for line in lines
    )


def quantity(number: float | None) -> str:
    """A count for a reader: `1.23 M`; a dash for none."""
    if number is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return f"{number:g}"


def metric_name(metric: str) -> str:
    """A metric as tables head it: `top1` -> `top-1`, `pixel_accuracy` -> `pixel accuracy`."""
    short = {"map": "mAP", "ap50": "AP50", "ap": "AP", "miou": "mIoU"}
    return short.get(metric) or re.sub(r"^top(\d)", r"top-\1", metric).replace("_", " ")

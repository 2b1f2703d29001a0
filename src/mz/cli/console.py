"""What every command prints with: results to stdout, notes and progress to stderr, JSON to a file or to stdout."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

VERBOSE = "mz.verbose"
"""Key of click's context under which `-v` is remembered."""


@dataclass(frozen=True, slots=True)
class Console:
    """quiet: no notes and no progress. verbose: details too.

    json_to: where the JSON goes ('-' for stdout), if anywhere.
    """

    quiet: bool = False
    verbose: bool = False
    json_to: str | None = None

    def result(self, text: str) -> None:
        """A result for a reader: to stdout, or to stderr when stdout belongs to the JSON."""
        if self.json_to != "-":
            click.echo(text)
        elif not self.quiet:
            click.echo(text, err=True)

    def note(self, text: str) -> None:
        """What happens on the way: to stderr. A note that is indented is a detail, for `--verbose` only."""
        if not self.quiet and (self.verbose or not text.startswith(" ")):
            click.echo(text, err=True)

    def emit(self, data: Any) -> None:
        """The machine-readable object, where the user asked for one. Raises UserError where it cannot be written."""
        if self.json_to is None:
            return
        import json

        text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if self.json_to == "-":
            click.echo(text, nl=False)
            return
        from mz.archive import writing

        with writing(Path(self.json_to)) as file:
            file.write(text.encode())

    @contextmanager
    def progress(
        self, label: str, total: int | None, unit: str = "images"
    ) -> Iterator[Callable[[int], object]]:
        """A bar with images/s on a terminal; elsewhere, silence. Gives the function that counts on.

        unit: what is counted; "B" is shown as kB and MB.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda count: None
            return
        from tqdm import tqdm

        of_bytes = unit == "B"
        unit = unit if of_bytes else f" {unit}"
        with tqdm(
            total=total, desc=label, unit=unit, unit_scale=of_bytes, file=sys.stderr, dynamic_ncols=True
        ) as bar:
            yield bar.update


def plain(value: Any) -> Any:
    """Data that every JSON reader takes: numpy values as numbers, paths as text, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's, told without importing it
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


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

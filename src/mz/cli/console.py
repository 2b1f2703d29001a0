"""What every command prints with: results to stdout, notes and progress to stderr, JSON to a file or to stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mz.report.plain import plain
from mz.report.tables import metric_name, quantity, table

__all__ = ["VERBOSE", "Console", "metric_name", "plain", "quantity", "table"]

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

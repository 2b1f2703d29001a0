"""`mz diff`: the first layer at which two engines, archives or compiled files give other integers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mz.cli.console import Console, table
from mz.cli.options import COUNT, INPUT_FILE, INPUT_PATH, console_options, node_names

if TYPE_CHECKING:
    from mz.flow.diff import DiffResult

EXIT_DIFFERENT = 1
MOST_LAYERS = 10
"""Rows of the table; the JSON has all."""


@click.command(short_help="Find the first layer at which two runs differ.")
@click.argument("first", type=INPUT_FILE, metavar="A.har")
@click.argument("second", type=INPUT_FILE, metavar="[B.har]", required=False)
@click.option(
    "--engines",
    multiple=True,
    metavar="NAME[,NAME]",
    help="What computes each side: numpy, onnxruntime, or artefact (the archive's compiled file).",
)
@click.option("--data-path", type=INPUT_PATH, help="Images to run (default: the network's own test set).")
@click.option("--data-count", type=COUNT, help="Only the first so many of them (default: 16).")
@console_options()
def command(
    first: Path,
    second: Path | None,
    engines: tuple[str, ...],
    data_path: Path | None,
    data_count: int | None,
    console: Console,
) -> int:
    """Run two sides on the same images and find the first layer whose integers differ.

    Two archives are compared in numpy; one alone with its compiled file; one with --engines numpy,onnxruntime in two
    engines. Exits with 0 when all integers are equal, 1 when they differ, 2 on errors.
    """
    from mz import flow

    result = flow.diff(
        first,
        second,
        engines=node_names(engines),
        data_path=data_path,
        data_count=data_count,
        progress=console.progress,
        note=console.note,
    )
    console.result(report(result))
    console.emit(as_data(result))
    return 0 if result.identical else EXIT_DIFFERENT


def report(result: DiffResult) -> str:
    """What was compared, where it parts first, and the layers that differ."""
    lines = [f"{result.first} | {result.second} | {result.images} images, {len(result.layers)} layers"]
    if result.only_in_one:
        lines.append(f"  only in one of the two: {', '.join(result.only_in_one)}")
    if result.other_scales:
        name, count = result.other_scales[0], len(result.other_scales)
        lines.append(f"  scale, zero point or bits differ in {count} layers, first in {name}")
    if result.first_difference is None:
        lines.append(f"identical: {result.integers:,} integers")
        return "\n".join(lines)
    lines.append(f"first difference at layer {result.first_difference}")
    differing = [(name, count) for name, count in result.layers.items() if count]
    lines.append(
        table(["layer", "differing"], [[name, f"{count:,}"] for name, count in differing[:MOST_LAYERS]], "<>")
    )
    if len(differing) > MOST_LAYERS:
        lines.append(f"  and {len(differing) - MOST_LAYERS} more layers")
    return "\n".join(lines)


def as_data(result: DiffResult) -> dict[str, Any]:
    """The JSON object of a diff."""
    first = result.first_difference
    return {
        "identical": result.identical,
        "first": result.first,
        "second": result.second,
        "images": result.images,
        "integers": result.integers,
        "first_difference": None
        if first is None
        else {
            "layer": first.layer,
            "image": first.image,
            "index": first.index,
            "expected": first.expected,
            "found": first.found,
            "differing": first.differing,
            "total": first.total,
        },
        "layers": result.layers,
        "only_in_one": result.only_in_one,
        "other_scales": result.other_scales,
        "fused": result.fused,
    }

"""`mz analyze`: which layers a quantized network's noise comes from, and a script that mends the worst of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mz.cli.console import Console, table
from mz.cli.options import COUNT, INPUT_PATH, OUTPUT_FILE, console_options, model_options
from mz.errors import UserError

if TYPE_CHECKING:
    from mz.flow import AnalyzeResult, ModelRef

MOST_LAYERS = 10
"""Rows of the table; the JSON has all."""


@click.command(short_help="Find the layers that cost accuracy, and mend them.")
@model_options
@click.option("--data-path", type=INPUT_PATH, help="Images (default: the network's own calibration set).")
@click.option("--data-count", type=COUNT, help="How many of them, evenly spaced (default: 32).")
@click.option(
    "--script",
    "script_to",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="Write a model script that mends the worst layers, for mz optimize --model-script.",
)
@click.option(
    "--goal",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="DB",
    help="By how many dB the script should lower the noise of the outputs.",
)
@click.option(
    "--har-out", type=OUTPUT_FILE, help="Where to save the archive with the analysis (default: --har)."
)
@console_options()
def command(
    ref: ModelRef,
    data_path: Path | None,
    data_count: int | None,
    script_to: Path | None,
    goal: float,
    har_out: Path | None,
    console: Console,
) -> None:
    """Rank the layers of a quantized archive (--har) by the noise that each adds to the network's outputs."""
    from mz import flow
    from mz.archive import write, writing

    if ref.har is None:
        raise UserError("mz analyze looks at integers: give the archive that mz optimize saved by --har")
    result = flow.analyze(
        ref,
        data_path=data_path,
        data_count=data_count,
        goal_db=goal,
        progress=console.progress,
        note=console.note,
    )
    console.result(report(result))
    path = har_out or ref.har
    write(result.archive, path)
    console.result(f"saved {path}")
    if script_to is not None:
        with writing(script_to) as file:
            file.write(result.script.encode())
        console.result(f"saved {script_to}: {len(result.mends)} changes, {result.gain_db:.1f} dB expected")
    console.emit({"model": result.archive.name, "har": path} | result.report)


def report(result: AnalyzeResult) -> str:
    """The noise of the outputs, the layers that add most of it, and what the script would change."""
    found = result.report
    lines = [
        f"{result.archive.name} | output SNR {found['output_db']:.1f} dB on {found['images']} images; "
        f"by the layers alone {found['predicted_db']:.1f} dB"
    ]
    headings = [
        "layer",
        "kind",
        "precision",
        "noise",
        "alone",
        "weights",
        "output",
        "SNR",
        "shift",
        "clipped",
        "dead",
    ]
    rows = [_cells(row) for row in found["layers"][:MOST_LAYERS]]
    lines.append(table(headings, rows, "<<<" + ">" * 8))
    if result.mends:
        lines.append("  mends:")
        lines += [f"    {mend}" for mend in result.mends]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    def db(key: str) -> str:
        return "-" if row[key] is None else f"{row[key]:.1f}"

    return [
        row["layer"],
        row["kind"],
        row["precision"],
        f"{100 * row['share']:.1f} %",
        *(db(key) for key in ("alone_db", "alone_weights_db", "alone_output_db", "snr_db")),
        f"{row['bias_shift']:.2f}",
        f"{100 * row['clipped']:.2g} %",
        f"{100 * row['dead']:.0f} %",
    ]

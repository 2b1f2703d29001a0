"""`mz optimize`: from float to integers, by a recipe, with a table of what was asked for and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mz.cli.console import Console, table
from mz.cli.options import (
    COUNT,
    INPUT_FILE,
    INPUT_PATH,
    OUTPUT_FILE,
    console_options,
    har_path,
    hw_arch_option,
    model_options,
)
from mz.errors import UserError

if TYPE_CHECKING:
    from mz.flow import ModelRef, Step


@click.command(short_help="Quantize a network.")
@model_options
@click.option(
    "--calib-path", type=INPUT_PATH, help="Images for calibration (default: the network's own set)."
)
@click.option("--calib-count", type=COUNT, help="How many of them (default: as the network's YAML says).")
@click.option("--model-script", type=INPUT_FILE, help="Model script (.alls) instead of the zoo's.")
@click.option("--optimization-level", type=int, metavar="LEVEL", help="-100, or 0 to 4.")
@click.option("--compression-level", type=click.IntRange(0, 5), help="Share of weights in 4 bits, 0 to 5.")
@click.option("--precision", metavar="aN_wN", help="Bits of activations and weights, as a8_w8 or a16_w8.")
@hw_arch_option
@click.option("--batch-size", type=COUNT, help="Images a batch in calibration.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random choice."
)
@click.option("--allow-fallback", is_flag=True, help="Go on where a step of the recipe cannot be done.")
@click.option("--har-out", type=OUTPUT_FILE, help="Where to save the archive (default: MODEL.har).")
@console_options()
def command(
    ref: ModelRef,
    calib_path: Path | None,
    calib_count: int | None,
    model_script: Path | None,
    optimization_level: int | None,
    compression_level: int | None,
    precision: str | None,
    hw_arch: str | None,
    batch_size: int | None,
    seed: int,
    allow_fallback: bool,
    har_out: Path | None,
    console: Console,
) -> None:
    """Quantize a network on calibration images and save the archive with its integers."""
    from mz import flow
    from mz.archive import write

    options = flow.OptimizeOptions(
        calib_path=calib_path,
        calib_count=calib_count,
        script=model_script,
        optimization_level=optimization_level,
        compression_level=compression_level,
        precision=precision,
        hw_arch=hw_arch,
        seed=seed,
        allow_fallback=allow_fallback,
        batch_size=batch_size,
    )
    result = flow.optimize(ref, options, progress=console.progress, note=console.note)
    console.result(steps_table(result.steps))
    missed = [step for step in result.steps if step.missed]
    if missed and not allow_fallback:
        names = ", ".join(step.name for step in missed)
        raise UserError(
            f"the recipe could not be honoured ({names}); nothing was saved. --allow-fallback goes on without"
        )
    path = har_path(har_out, result.archive.name)
    write(result.archive, path)
    console.result(f"saved {path}")
    console.emit(
        {
            "model": result.archive.name,
            "hw_arch": result.archive.hw_arch,
            "har": path,
            "steps": [
                {
                    field: getattr(step, field)
                    for field in ("name", "requested", "optional", "applied", "note")
                }
                for step in result.steps
            ],
            "recipe": result.recipe,
        }
    )


def steps_table(steps: Sequence[Step]) -> str:
    yes_or_no = {True: "yes", False: "no"}
    rows = [
        [
            step.name,
            "if it helps" if step.optional else yes_or_no[step.requested],
            yes_or_no[step.applied],
            step.note,
        ]
        for step in steps
    ]
    return table(["step", "requested", "applied", "note"], rows)

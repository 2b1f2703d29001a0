"""`mz optimize`: from float to integers, by a recipe, with a table of what was asked for and what was done."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mz.cli.console import Console, metric_name, table
from mz.cli.options import (
    COUNT,
    INPUT_FILE,
    INPUT_PATH,
    OUTPUT_FILE,
    Duration,
    console_options,
    har_path,
    hw_arch_option,
    model_options,
)
from mz.errors import UserError

if TYPE_CHECKING:
    from mz.flow import ModelRef, OptimizeOptions, SearchGoal, SearchResult, Step

EXIT_NONE_HOLDS = 1


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
@click.option("--no-cache", is_flag=True, help="Calibrate anew, and keep no statistics for later runs.")
@click.option("--allow-fallback", is_flag=True, help="Go on where a step of the recipe cannot be done.")
@click.option(
    "--max-degradation",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Search for a recipe that loses no more than this, from cheap to dear.",
)
@click.option(
    "--metric", help="What the search judges by (default: the task's metric; agreement without labels)."
)
@click.option("--budget", type=Duration(), help="Time that the search may take.")
@click.option(
    "--data-path", type=INPUT_PATH, help="Images that the search judges by (default: the test set)."
)
@click.option("--data-count", type=COUNT, help="How many of them.")
@click.option("--dry-run", is_flag=True, help="Print the recipe in force as a model script, and do nothing.")
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
    no_cache: bool,
    allow_fallback: bool,
    max_degradation: float | None,
    metric: str | None,
    budget: float | None,
    data_path: Path | None,
    data_count: int | None,
    dry_run: bool,
    har_out: Path | None,
    console: Console,
) -> int:
    """Quantize a network on calibration images and save the archive with its integers.

    With --max-degradation, exits with 0 when a recipe holds and with 1 when none does; the best one is saved either
    way.
    """
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
        cache=not no_cache,
    )
    if dry_run:
        script, refused = flow.recipe_in_force(ref, options, progress=console.progress, note=console.note)
        console.result(script.rstrip("\n"))
        if refused:
            console.result(steps_table(refused))
        _refuse_missed(refused, allow_fallback)
        console.emit({"script": script, "refused": [step_dict(step) for step in refused]})
        return 0
    if max_degradation is not None:
        goal = flow.SearchGoal(max_degradation, metric, budget, data_path, data_count)
        return _search(ref, options, goal, har_out, console)
    if metric or budget or data_path or data_count:
        raise click.UsageError("--metric, --budget, --data-path and --data-count belong to --max-degradation")
    result = flow.optimize(ref, options, progress=console.progress, note=console.note)
    console.result(steps_table(result.steps))
    _refuse_missed(result.steps, allow_fallback)
    path = har_path(har_out, result.archive.name)
    write(result.archive, path)
    console.result(f"saved {path}")
    console.emit(
        {
            "model": result.archive.name,
            "hw_arch": result.archive.hw_arch,
            "har": path,
            "steps": [step_dict(step) for step in result.steps],
            "recipe": result.recipe,
        }
    )
    return 0


def _refuse_missed(steps: Sequence[Step], allow_fallback: bool) -> None:
    missed = [step for step in steps if step.missed]
    if missed and not allow_fallback:
        names = ", ".join(step.name for step in missed)
        raise UserError(
            f"the recipe could not be honoured ({names}); nothing was saved. --allow-fallback goes on without"
        )


def step_dict(step: Step) -> dict[str, object]:
    return {field: getattr(step, field) for field in ("name", "requested", "optional", "applied", "note")}


def _search(
    ref: ModelRef, options: OptimizeOptions, goal: SearchGoal, har_out: Path | None, console: Console
) -> int:
    from mz import flow

    result = flow.search(ref, options, goal, har_out, progress=console.progress, note=console.note)
    console.result(search_table(result))
    console.result(f"saved {result.har}")
    console.emit(
        {
            "model": result.archive.name,
            "har": result.har,
            "metric": result.metric,
            "max_degradation": result.max_degradation,
            "images": result.images,
            "holds": result.holds,
            "best": result.best,
            "tried": [dataclasses.asdict(row) for row in result.tried],
        }
    )
    return 0 if result.holds else EXIT_NONE_HOLDS


def search_table(result: SearchResult) -> str:
    """Every recipe with what it lost and what it costs, and which one was taken."""
    least = min(row.bit_operations for row in result.tried if row.lost)
    rows = []
    for row in result.tried:
        if not row.lost:
            rows.append([row.recipe, "", "", "", "", "", "", row.note])
            continue
        lost = row.lost[result.metric]
        rows.append(
            [
                row.recipe,
                row.precision,
                f"{lost['value']:.2f}",
                f"{lost['low']:.2f} .. {lost['high']:.2f}",
                f"{row.weight_bytes / 1e6:.2f} MB",
                f"{row.bit_operations / least:.2f}" if least else "-",
                f"{row.seconds:.0f} s",
                "" if row.recipe != result.best else "holds" if result.holds else "best, does not hold",
            ]
        )
    name = metric_name(result.metric)
    headings = ["recipe", "precision", f"{name} lost", "95 % interval", "weights", "work", "time", ""]
    lines = [table(headings, rows, "<<>>>>><")]
    lines.append(
        f"  at most {result.max_degradation:g} points of {name}, upper end of the paired interval, "
        f"on {result.images} images"
    )
    if not result.holds and any(row.lost and row.lost[result.metric]["value"] <= 0 for row in result.tried):
        lines.append(
            "  some recipes lose nothing: it takes more images to prove that they hold (--data-path)"
        )
    return "\n".join(lines)


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

"""`mz eval`: accuracy on labelled images, in full precision or in the emulator, and how sure it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mz.cli.console import Console, metric_name, table
from mz.cli.options import COUNT, INPUT_PATH, OUTPUT_FILE, OUTPUT_FOLDER, console_options, model_options

if TYPE_CHECKING:
    from mz.flow import EvalResult, ModelRef

MOST_LAYERS = 10
"""Rows of the saturation table; the JSON has all."""


@click.command(short_help="Measure accuracy, in float or in integers.")
@model_options
@click.option(
    "--target",
    type=click.Choice(["full_precision", "fp_optimized", "emulator", "native"]),
    default="full_precision",
    show_default=True,
    help="What runs: the float network, that after the passes of --har, its integers, or its compiled C code.",
)
@click.option("--data-path", type=INPUT_PATH, help="Labelled images (default: the network's own test set).")
@click.option("--data-count", type=COUNT, help="Only the first so many of them.")
@click.option("--batch-size", type=COUNT, help="Images a batch.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "ort", "numpy"]),
    default="auto",
    show_default=True,
    help="What computes the integers: onnxruntime (checked against numpy) or numpy.",
)
@click.option("--visualize", type=OUTPUT_FOLDER, metavar="DIR", help="Draw predictions into this folder.")
@click.option(
    "--dump-layers",
    type=OUTPUT_FOLDER,
    metavar="DIR",
    help="Write every layer's output into this folder: integers in the emulator, else floats.",
)
@click.option("--saturation", is_flag=True, help="Count by layer the integers that were clipped.")
@click.option(
    "--har-out",
    type=OUTPUT_FILE,
    help="Save the archive with this accuracy in it, for `mz profile` and others.",
)
@console_options()
def command(
    ref: ModelRef,
    target: str,
    data_path: Path | None,
    data_count: int | None,
    batch_size: int | None,
    engine: str,
    visualize: Path | None,
    dump_layers: Path | None,
    saturation: bool,
    har_out: Path | None,
    console: Console,
) -> None:
    """Measure a network's accuracy on labelled images."""
    from mz import flow

    options = flow.EvalOptions(
        target=target,
        data_path=data_path,
        data_count=data_count,
        batch_size=batch_size,
        engine=engine,
        visualize=visualize,
        dump_layers=dump_layers,
        saturation=saturation,
    )
    result = flow.evaluate(ref, options, progress=console.progress, note=console.note)
    console.result(report(result))
    if result.saturation is not None:
        console.result(saturated(result.saturation))
    if har_out is not None:
        from mz import archive

        assert result.archive is not None
        archive.write(result.archive, har_out)
        console.result(f"saved {har_out}")
    console.emit(as_data(result))


def report(result: EvalResult) -> str:
    """The header and the table: a row for each thing measured, two columns a metric."""
    metrics = list(result.metrics)
    rows = []
    if result.baseline is not None:
        rows.append(["full precision", *_cells(metrics, result.baseline["metrics"], result.baseline["ci95"])])
    rows.append([_label(result), *_cells(metrics, result.metrics, result.ci95)])
    if result.degradation is not None:
        values = {metric: loss["value"] for metric, loss in result.degradation.items()}
        bounds = {metric: (loss["low"], loss["high"]) for metric, loss in result.degradation.items()}
        rows.append(["degradation", *_cells(metrics, values, bounds), "(paired)"])
    width = 1 + 2 * len(metrics)
    headings = ["", *(cell for metric in metrics for cell in (metric_name(metric), "95 % interval"))]
    if len(rows[-1]) > width:
        headings, rows = [*headings, ""], [row + [""] * (width + 1 - len(row)) for row in rows]
    lines = [result.header]
    if metrics:
        lines.append(table(headings, rows, "<" + ">>" * len(metrics)))
    else:
        lines.append("  no labels, so no accuracy")
    closeness = []
    if result.agreement is not None:
        closeness.append(f"agreement with float {result.agreement:.2f} %")
    if result.snr_db is not None:
        closeness.append(f"output SNR {result.snr_db:.1f} dB")
    if closeness:
        lines.append("  " + ", ".join(closeness))
    left_out = f", {len(result.damaged)} damaged and left out" if result.damaged else ""
    lines.append(f"  {result.count} images{left_out}, {result.images_per_second:.0f} images/s")
    return "\n".join(lines)


def saturated(layers: Mapping[str, Mapping[str, int]]) -> str:
    """The layers that clip most, and the share of their integers that came from beyond either bound."""
    shares = {name: (row["low"] / row["total"], row["high"] / row["total"]) for name, row in layers.items()}
    worst = sorted((name for name in shares if sum(shares[name])), key=lambda name: -sum(shares[name]))
    if not worst:
        return "  saturation: no layer clips"
    rows = [[name, *(f"{100 * share:.2g} %" for share in shares[name])] for name in worst[:MOST_LAYERS]]
    more = f"\n  and {len(worst) - MOST_LAYERS} more layers" if len(worst) > MOST_LAYERS else ""
    return table(["saturation", "below", "above"], rows, "<>>") + more


def _label(result: EvalResult) -> str:
    """`8-bit (emulator)` where activations and weights have the same bits, else `a8_w4 (emulator)`."""
    if result.target == "full_precision":
        return "full precision"
    if result.target == "fp_optimized":
        return "optimized (float)"
    bits = re.fullmatch(r"a(\d+)_w\1", result.precision)
    return f"{f'{bits[1]}-bit' if bits else result.precision} ({result.target})"


def _cells(metrics: list[str], values: Mapping[str, float], bounds: Mapping[str, Any]) -> list[str]:
    cells = []
    for metric in metrics:
        low, high = bounds.get(metric, (None, None))
        cells += [
            f"{values[metric]:.2f}" if metric in values else "-",
            f"{low:.2f} .. {high:.2f}" if low is not None and high is not None else "-",
        ]
    return cells


def as_data(result: EvalResult) -> dict[str, Any]:
    """The JSON object of an evaluation; what was not measured is left out."""
    data: dict[str, Any] = {
        "model": result.model,
        "target": result.target,
        "engine": result.engine,
        "precision": result.precision,
        "metrics": result.metrics,
        "count": result.count,
        "ci95": result.ci95,
        "images_per_second": result.images_per_second,
    }
    if result.damaged:
        data["damaged"] = list(result.damaged)
    for key in ("baseline", "degradation", "agreement", "agreement_ci95", "snr_db", "saturation"):
        if (value := getattr(result, key)) is not None:
            data[key] = value
    return data

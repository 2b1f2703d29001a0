"""`mz parse`: a network as a graph of layers, in an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mz.cli.console import Console, quantity
from mz.cli.options import OUTPUT_FILE, console_options, har_path, hw_arch_option, model_options

if TYPE_CHECKING:
    from mz.flow import ModelRef


@click.command(short_help="Translate a network into the layer graph.")
@model_options
@hw_arch_option
@click.option("--har-out", type=OUTPUT_FILE, help="Where to save the archive (default: MODEL.har).")
@console_options(json=False)
def command(ref: ModelRef, hw_arch: str | None, har_out: Path | None, console: Console) -> None:
    """Translate a network (ONNX) into the layer graph and prove that its float outputs are the same."""
    from mz import flow
    from mz.archive import write

    archive = flow.parse(ref, hw_arch=hw_arch, note=console.note, progress=console.progress)
    path = har_path(har_out, archive.name)
    write(archive, path)
    graph = archive.graph
    parameters = sum(array.size for arrays in archive.params.values() for array in arrays.values())
    macs = graph.coverage().macs
    console.result(
        f"{archive.name}: {len(graph.layers)} layers, {quantity(parameters)} parameters, {quantity(macs)} MACs an image"
    )
    console.result(flow.coverage_line(archive.report, graph))
    console.result(f"saved {path}")

"""`mz compile`: the integers as files that run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mz.cli.console import Console
from mz.cli.options import INPUT_PATH, OUTPUT_FOLDER, console_options, hw_arch_option, model_options

if TYPE_CHECKING:
    from mz.flow import ModelRef


@click.command(short_help="Write the integers as files that run.")
@model_options
@hw_arch_option
@click.option(
    "--out", type=OUTPUT_FOLDER, metavar="DIR", help="Folder for the files (default: MODEL_compiled)."
)
@click.option("--verify", is_flag=True, help="Run the files on images and compare every output integer.")
@click.option(
    "--data-path", type=INPUT_PATH, help="Images to verify on (default: the network's own test set)."
)
@console_options()
def command(
    ref: ModelRef,
    hw_arch: str | None,
    out: Path | None,
    verify: bool,
    data_path: Path | None,
    console: Console,
) -> None:
    """Write the quantized network as files that run, and the compiled archive."""
    from mz import flow

    result = flow.compile_model(
        ref,
        hw_arch=hw_arch,
        out=out,
        verify=verify,
        data_path=data_path,
        progress=console.progress,
        note=console.note,
    )
    for name, value in _lines(result.summary):
        console.result(f"  {name:32}{value}")
    if result.verify is not None:
        for name, value in _lines(result.verify):
            console.result(f"  {'verify ' + name:32}{value}")
    for path in result.files:
        console.result(f"saved {path}")
    console.emit(
        {
            "model": result.archive.name,
            "hw_arch": result.archive.hw_arch,
            "har": result.har,
            "files": result.files,
            "summary": result.summary,
            "verify": result.verify,
        }
    )


def _lines(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The single values of nested mappings by their path in words; lists are for the JSON."""
    for key, value in data.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _lines(value, name + " ")
        elif not isinstance(value, (list, tuple)):
            yield name, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

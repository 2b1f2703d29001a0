"""`mz info`: what the zoo knows about one network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mz.cli.console import Console
from mz.cli.list import COLUMNS
from mz.cli.options import console_options, model_options

if TYPE_CHECKING:
    from mz.flow import ModelRef


@click.command(short_help="Show what the zoo knows of a network.")
@model_options
@console_options()
def command(ref: ModelRef, console: Console) -> None:
    """Show a network's task, input, size, float accuracy, licence and source."""
    from mz import flow

    about = flow.info(ref)
    for heading, text in COLUMNS.items():
        console.result(f"{heading:16}{text(about)}")
    share = about["accelerator"]
    console.result(
        f"{'accelerator':16}{share['layers_percent']:.1f} % of the layers, {share['macs_percent']:.1f} % of the MACs"
    )
    for name, reason in list(about["host"].items())[:1]:
        console.result(f"{'host, first':16}{name} ({reason})")
    console.emit(about)

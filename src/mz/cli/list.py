"""`mz list`: the networks of the zoo, one a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from mz.cli.console import Console, metric_name, quantity, table
from mz.cli.options import NetworkName, console_options

About = Mapping[str, Any]


def _input(about: About) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in about["input"].values()) or "-"


def _accuracy(about: About) -> str:
    measured = about["full_precision"].items()
    return ", ".join(f"{metric_name(metric)} {value:.2f}" for metric, value in measured) or "-"


COLUMNS: dict[str, Callable[[About], str]] = {
    "name": lambda about: str(about["name"]),
    "task": lambda about: str(about["task"]),
    "input": _input,
    "parameters": lambda about: quantity(about["parameters"]),
    "MACs": lambda about: quantity(about["macs"]),
    "float accuracy": _accuracy,
    "licence": lambda about: about["licence"] or "-",
    "source": lambda about: about["source"] or "-",
}
"""Heading -> text of a network, for `mz list` and `mz info`."""


@click.command(short_help="List the networks of the zoo.")
@click.argument("glob", default="*", type=NetworkName())
@console_options()
def command(glob: str, console: Console) -> None:
    """List the zoo's networks, all or those whose name matches GLOB ("*fashion*")."""
    from mz import flow

    networks = flow.list_models(glob)
    if networks:
        rows = [[text(about) for text in COLUMNS.values()] for about in networks]
        console.result(table(list(COLUMNS), rows, "<<<>><"))
    else:
        console.note(f"no network's name matches {glob!r}")
    console.emit(networks)

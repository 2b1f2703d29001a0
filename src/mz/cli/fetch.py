"""`mz fetch`: networks brought to this machine ahead of time."""

from __future__ import annotations

from typing import Any

import click

from mz.cli.console import Console, table
from mz.cli.options import NetworkName, console_options, offline_option
from mz.errors import UserError


@click.command(short_help="Download networks ahead of time.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=NetworkName())
@offline_option
@console_options()
def command(models: tuple[str, ...], offline: bool, console: Console) -> None:
    """Download the networks that are named, or whose names match ("*lite*"), and say where they lie.

    What is there already is checked and not downloaded again; with --offline that is all that is done.
    """
    from mz import zoo

    fetched: list[dict[str, Any]] = []
    failed: list[str] = []
    for name in _names(models):
        config = zoo.load_network(name)
        try:
            path = zoo.model_path(config, offline=offline, note=console.note, progress=console.progress)
        except UserError as error:
            failed.append(str(error))
            fetched.append({"model": name, "error": str(error)})
            continue
        source = config.paths.source
        licence = config.info.licence or getattr(source, "licence", "")
        size_bytes = path.stat().st_size
        fetched.append({"model": name, "path": path, "bytes": size_bytes, "licence": licence})
    rows = [[f["model"], f"{f['bytes']:,}", f["licence"], str(f["path"])] for f in fetched if "path" in f]
    if rows:
        console.result(table(["name", "bytes", "licence", "file"], rows, "<><<"))
    console.emit(fetched)
    if len(failed) == 1:
        raise UserError(failed[0])
    if failed:
        console.note("\n".join(failed))
        raise UserError(f"{len(failed)} of {len(fetched)} networks could not be had (see above)")


def _names(models: tuple[str, ...]) -> list[str]:
    """The networks that names and patterns stand for, each once. Raises UserError for a pattern that matches none."""
    from mz import zoo

    names: dict[str, None] = {}
    for model in models:
        found = zoo.network_names(model) if any(mark in model for mark in "*?[") else [model]
        if not found:
            raise UserError(f"no network's name matches {model!r}: see `mz list`")
        names |= dict.fromkeys(found)
    return list(names)

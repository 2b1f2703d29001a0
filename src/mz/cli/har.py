"""`mz har`: what an archive holds, its members as files, and how two archives differ."""

from __future__ import annotations

from pathlib import Path

import click

from mz.cli.console import Console, quantity, table
from mz.cli.options import INPUT_FILE, OUTPUT_FOLDER, console_options

EXIT_DIFFERENT = 1


@click.group(short_help="Look into archives.")
def command() -> None:
    """Look into archives (.har)."""


@command.command()
@click.argument("har", type=INPUT_FILE)
@console_options()
def info(har: Path, console: Console) -> None:
    """Show an archive's state, members, layers and history."""
    from mz.archive import describe, read

    about = describe(read(har))
    console.result(f"{about['name']}: {about['state']} for {about['hw_arch']}")
    console.result(f"{quantity(about['parameters'])} parameters, {quantity(about['macs'])} MACs an image\n")
    rows = [
        [
            row["layer"],
            row["kind"],
            "x".join(map(str, row["shape"])),
            quantity(row["parameters"]) if row["parameters"] else "",
            quantity(row["macs"]) if row["macs"] else "",
            "host, float" if row["host"] else row["precision"] or "",
        ]
        for row in about["layers"]
    ]
    console.result(
        table(["layer", "kind", "output", "parameters", "MACs", "precision"], rows, "<<>>><") + "\n"
    )
    rows = [[name, f"{size:,}"] for name, size in about["members"].items()]
    console.result(table(["member", "bytes"], rows, "<>") + "\n")
    for number, entry in enumerate(about["history"], 1):
        asked = ", ".join(f"{key}={value}" for key, value in entry.get("settings", {}).items())
        console.result(f"  {number}. {entry.get('stage', '?')}{': ' * bool(asked)}{asked}")
    console.emit(about)


@command.command()
@click.argument("har", type=INPUT_FILE)
@click.option("--out", type=OUTPUT_FOLDER, metavar="DIR", required=True, help="Folder for the members.")
@console_options(json=False)
def extract(har: Path, out: Path, console: Console) -> None:
    """Write an archive's members as files, once they are found undamaged."""
    from mz.archive import extract as extract_members

    for path in extract_members(har, out):
        console.result(str(path))


@command.command()
@click.argument("first", type=INPUT_FILE)
@click.argument("second", type=INPUT_FILE)
@console_options()
def diff(first: Path, second: Path, console: Console) -> int:
    """Compare two archives layer by layer. Exits with 0 when they hold the same, 1 when they differ, 2 on errors."""
    from mz.archive import diff as difference
    from mz.archive import read

    differences = difference(read(first), read(second))
    for line in differences:
        console.result(str(line))
    if not differences:
        console.result("identical")
    console.emit(
        {
            "identical": not differences,
            "differences": [{"part": d.part, "where": d.where, "text": d.text} for d in differences],
        }
    )
    return EXIT_DIFFERENT if differences else 0

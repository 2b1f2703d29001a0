"""`mz profile`: all that an archive knows of its network, as one page to open, as text, or as JSON."""

from __future__ import annotations

from pathlib import Path

import click

from mz.cli.console import Console
from mz.cli.options import INPUT_FILE, OUTPUT_FILE, console_options


@click.command(short_help="Report on an archive: a page to open, text, JSON.")
@click.argument("har", type=INPUT_FILE)
@click.option(
    "--out",
    type=OUTPUT_FILE,
    metavar="FILE",
    help="The page (default: the archive's name with .html, in this folder).",
)
@click.option("--text", is_flag=True, help="Print the figures; write no page unless --out names one.")
@console_options()
def command(har: Path, out: Path | None, text: bool, console: Console) -> None:
    """Report on the network of an archive in any state: graph, layers, noise, memory, accuracy, steps.

    The page is one file that needs nothing but a browser: it opens from disk, loads nothing and sends nothing. With
    --text or --json and without --out no page is written.
    """
    from mz import flow

    about = flow.profile_file(har)
    if text:
        from mz.report.text import text as as_text

        console.result(as_text(about))
    if out is not None or not (text or console.json_to):
        from mz.archive import writing
        from mz.report.html import page

        path = out or Path(f"{har.stem}.html")
        content = page(about).encode()
        with writing(path) as file:
            file.write(content)
        console.result(f"saved {path}")
    console.emit(about)

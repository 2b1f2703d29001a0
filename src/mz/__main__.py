"""`python -m mz`: the command line."""

from __future__ import annotations

from mz.cli import cli

if __name__ == "__main__":
    cli()

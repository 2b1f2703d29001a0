"""The command line: options in, `mz.flow` called, results printed; no work is done here.

Results go to stdout, everything else to stderr. numpy, onnx and onnxruntime are imported by the commands that need
them and never by `mz --help`.
"""

from __future__ import annotations

from mz.cli.group import cli

__all__ = ["cli", "main"]


def main() -> None:
    """The console script `mz`."""
    cli()

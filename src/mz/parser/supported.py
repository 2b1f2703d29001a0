"""The operators on the page docs/supported-layers.md, by the parser's rules; `mz.compiler.supported` adds the rest."""

from __future__ import annotations

from collections.abc import Iterable

from mz.parser.node import message, on_tensor
from mz.parser.onnx_file import OPSETS
from mz.parser.rules import Row, host_operators, supported_operators

HEAD = f"""# Supported operators

Written by `python -m mz.compiler.supported` from the rules that parser and targets themselves go by.
Opsets {OPSETS[0]} to {OPSETS[-1]}; the batch may be open or 1. A network in half precision is taken as the float32
network of the same numbers, and so is one whose input of integers is only moved and cast to floats; one that is
quantized already is refused, but for weights stored as integers.

Whatever depends on constants and shapes alone is computed while parsing and needs no rule: weights behind Constant,
Identity, Cast, Transpose or DequantizeLinear nodes or in external data files, and the Shape-Gather-Concat chains
before a Reshape. Activation functions that an exporter has written out as several nodes are recognized by their values.

## On the accelerator

These become layers that have integers. A node that breaks a constraint runs on the host if the second table has its
operator, else it is an error; all errors are listed at once, with the nodes to end the network at instead. A Conv or
a pool may also run over one axis, [N, C, L]. The first input is always a tensor of the network.
"""

HOST = """
## On the host

These run in float32, as they are, after dequantization, and so does every layer that reads them. `mz parse` and
`mz info` say how much of the network is left on the accelerator, and with which layer and why the host's part begins.
Also on the host: constants that differ from place to place after the last layer with weights (anchors and priors of
detectors), with all that follows; reshapes, activations and constants that nothing but host layers read; and what
joins the results of different layers into one output, as detectors do with boxes and confidences: each has a scale of
its own.
"""


def page() -> str:
    """What the parser takes, in Markdown."""
    rows = supported_operators()
    inside = [row for row in rows if row[0] != "Softmax"]
    outside = sorted([*host_operators(), *(row for row in rows if row[0] == "Softmax")])
    return HEAD + "\n" + _table(inside) + HOST + "\n" + _table(outside)


def _table(rows: Iterable[Row]) -> str:
    lines = ["| ONNX operator | becomes | where |", "|---|---|---|"]
    usual = message(on_tensor)
    for name, what, limits in rows:
        shown = ". ".join(limit for limit in limits if limit != usual)
        lines.append(f"| {name} | {_cell(what)} | {_cell(shown)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").rstrip(".")

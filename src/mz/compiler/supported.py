"""The page docs/supported-layers.md by the rules of parser and targets; `python -m mz.compiler.supported` writes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mz import zoo
from mz.compiler.hw_arch import either
from mz.parser.supported import page as operators_page
from mz.zoo.schema import LayerLimits

HEAD = """
## By target

Every target takes every layer of the first table, in the number formats given here, but for the limits below. `mz
optimize` and `mz compile` check them before any image is read. Files of your own (`--hw-arch mine.yaml`) may say more.
"""

LIMITS = """
A depthwise layer is a convolution with one input channel a group. Bits of activations are those of what a layer reads
and of what it writes.
"""


def page() -> str:
    """The whole page in Markdown."""
    archs = [zoo.load_hw_arch(name) for name in zoo.hw_arch_names()]
    formats = [
        (
            arch.name,
            either(arch.activation_bits),
            either(arch.weight_bits),
            arch.weight_scale.replace("_", " "),
            arch.execution,
            ", ".join(arch.emit),
        )
        for arch in archs
    ]
    limited = [
        (arch.name, str(kind), _takes(limit), limit.reason, limit.remedy)
        for arch in archs
        for kind, limit in arch.layers.items()
        if limit.reason
    ]
    columns = ("target", "bits of activations", "of weights", "weight scale", "execution", "forms")
    return (
        operators_page()
        + HEAD
        + _table(columns, formats)
        + LIMITS
        + _table(("target", "layers", "takes", "because", "way out"), limited)
    )


def _takes(limit: LayerLimits) -> str:
    if not limit.supported:
        return "none"
    said = (("activations", limit.activation_bits), ("weights", limit.weight_bits))
    return ", ".join(f"{what} of {either(bits)} bits" for what, bits in said if bits)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(page(), end="")

"""The names that model scripts use: `conv1`, `dw2`, `fc1`, `ew_add1`, numbered in the order of the layers.

Plain and depthwise convolutions share one counter; every other prefix counts for itself.
"""

from __future__ import annotations

from collections import Counter

from mz.graph import Conv, GlobalAvgPool, Layer
from mz.parser.draft import Draft


def final_names(draft: Draft) -> dict[str, str]:
    """Final name by provisional name, in topological order."""
    counts: Counter[str] = Counter()
    names = {}
    for layer in draft.in_order():
        prefix = _prefix(layer, draft)
        counter = "conv" if prefix == "dw" else prefix
        counts[counter] += 1
        names[layer.name] = f"{prefix}{counts[counter]}"
    return names


def _prefix(layer: Layer, draft: Draft) -> str:
    if layer.name in draft.normalizations:
        return "normalization"
    if isinstance(layer, GlobalAvgPool):
        return "avgpool"
    if isinstance(layer, Conv) and layer.groups > 1 and draft.params[layer.name]["kernel"].shape[1] == 1:
        return "dw"
    return layer.prefix

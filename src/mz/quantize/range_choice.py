"""Which way of finding activation ranges suits a network: tried, not guessed.

No power of the error is best everywhere: what a clipped peak costs depends on what the later layers make of it. So each
method quantizes the activations (weights at 16 bits, whose noise does not count), and the integer engine says which one
leaves the outputs closest to the float network's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mz.graph import Graph, Params
from mz.quantize.quantizer import quantize
from mz.quantize.recipe import Recipe
from mz.quantize.statistics import Statistics
from mz.quantize.trial import Trial

CANDIDATES = ("l3", "min_max", "mse", "l1_5")
"""Of those that measure alike the first one is taken: what clips more may lose more on images that come later."""

REFINED_CANDIDATES = ("l3", "mse", "l1_5")
"""Those where integers are refined later: that mends much of what clipping does, and min/max was the best of no network
any more (docs/quantization-evidence.md, section 3).
"""

MARGIN_DB, WIDE_MARGIN_DB, REFINED_MARGIN_DB = 1.0, 2.0, 0.25
"""Within so much of the best they measure alike: before any refinement, which changes more than that; the more so with
activations of 4 bits, and for what clips less than the best; and after it.
"""


def output_noise_by_method(
    trial: Trial,
    graph: Graph,
    params: Params,
    statistics: Statistics,
    recipe: Recipe,
    methods: Sequence[str] = CANDIDATES,
) -> dict[str, float]:
    """Mean signal-to-noise ratio of the accelerator's outputs on the trial's images, in dB, for each of the methods;
    more is better. Ranges that the recipe sets layer by layer stay as they are.
    """
    found = {}
    for method in methods:
        wide = recipe.with_fine_weights().with_ranges_by(method)
        found[method] = trial.output_db(graph, params, quantize(graph, params, statistics, wide))
    return found


def best_method(decibels: Mapping[str, float]) -> str:
    """The candidate to take, given what `output_noise_by_method` measured."""
    return _alike(decibels, MARGIN_DB)[0]


def contenders(decibels: Mapping[str, float], activation_bits: int) -> list[str]:
    """Those that measure alike, any of which refinement may make the best."""
    near, far = _alike(decibels, MARGIN_DB), _alike(decibels, WIDE_MARGIN_DB)
    if activation_bits == 4:
        return far
    best = max(near, key=decibels.__getitem__)
    return [name for name in far if name in near or CANDIDATES.index(name) < CANDIDATES.index(best)]


def refined_best(decibels: Mapping[str, float]) -> str:
    """The one to take of candidates that were measured after their refinement."""
    return _alike(decibels, REFINED_MARGIN_DB)[0]


def _alike(decibels: Mapping[str, float], margin: float) -> list[str]:
    enough = max(decibels.values()) - margin
    return [name for name in CANDIDATES if decibels.get(name, -np.inf) > enough]

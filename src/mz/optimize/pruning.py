"""Structured pruning: output channels removed across all layers that they bind together, the rest fitted anew.

1. Groups of channels that go together (`pruning_groups`), from the classes of `channels`.
2. Per group the order in which they go, and the error at its readers (`elimination`, or an `importance`).
3. What a group's error does to the outputs, measured by removing a quarter of each group by itself.
4. Which channels go under a budget (`pruning_budget`); they are taken out (`channel_removal`).
5. The remaining weights are fitted to the whole network's tensors (`reconstruction`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mz.errors import UserError
from mz.graph import Graph, Params
from mz.optimize.channel_removal import remove_channels
from mz.optimize.channels import channel_classes
from mz.optimize.dead_channels import channel_counts
from mz.optimize.elimination import Elimination, eliminate
from mz.optimize.importance import channel_scores
from mz.optimize.moments import input_moments
from mz.optimize.pruning_budget import choose_channels, parameter_count
from mz.optimize.pruning_groups import pruning_groups
from mz.optimize.reconstruction import held_out, reconstruct
from mz.optimize.taylor import taylor_scores
from mz.quantize import Trial


@dataclass(frozen=True, slots=True)
class PruningReport:
    """macs, parameters: before and after. channels: before and after, of the layers that lost some.

    removed_db, fitted_db: mean output SNR against the whole network in dB, before and after the reconstruction,
    on images that nothing was fitted to.
    """

    macs: tuple[int, int]
    parameters: tuple[int, int]
    channels: dict[str, tuple[int, int]]
    removed_db: float
    fitted_db: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def prune(
    graph: Graph,
    params: Params,
    images: Mapping[str, np.ndarray],
    *,
    ratio: float,
    budget: str = "macs",
    importance: str = "reconstruction",
    layers: Collection[str] | None = None,
    seed: int = 0,
    group_done: Callable[[str], None] = lambda name: None,
) -> tuple[Graph, Params, PruningReport]:
    """The network with at least `ratio` less of the budget, and what that did to its outputs.

    images: float32 [N, *shape] by Input layer, without labels. budget: "macs", "parameters" or "channels". importance:
    one of `mz.script.IMPORTANCES`. layers: only output channels of those. Raises UserError where nothing can be
    removed, or not so much.
    """
    rng, (images, judges) = np.random.default_rng(seed), held_out(images)
    channels = channel_classes(graph, "removal")
    groups = pruning_groups(graph, channels, layers)
    if not groups:
        among = "" if layers is None else f" among the output channels of {', '.join(sorted(layers))}"
        raise UserError(f"pruning: no channels of {graph.name} can be removed{among}")
    readers = {use.layer.name: use.layer for group in groups for use in group.consumers}
    moments = input_moments(graph, params, list(readers.values()), images, rng)
    trial = Trial(graph, params, judges)
    taylor = taylor_scores(graph, params, images, rng) if importance == "taylor" else {}
    eliminations, weights = [], []
    for group in groups:
        scores = channel_scores(group, params, moments, importance, taylor)
        elimination = eliminate(group, params, moments, scores)
        if elimination.chunks:
            eliminations.append(elimination)
            weights.append(_output_noise(trial, graph, params, elimination))
        group_done(group.name)
    removed = choose_channels(graph, channels, eliminations, weights, ratio, budget)
    smaller, cut = remove_channels(graph, params, channels, removed)
    kept = {layer.name: ~removed[channels.of_outputs(graph, layer)] for layer in graph.weighted}
    fitted = reconstruct((graph, params), (smaller, cut), kept, images, rng)
    before, after = channel_counts(graph), channel_counts(smaller)
    report = PruningReport(
        macs=(graph.coverage().macs, smaller.coverage().macs),
        parameters=(parameter_count(graph, params), parameter_count(smaller, fitted)),
        channels={name: (n, after[name]) for name, n in before.items() if after[name] != n},
        removed_db=round(trial.float_db(smaller, cut), 2),
        fitted_db=round(trial.float_db(smaller, fitted), 2),
    )
    return smaller, fitted, report


def group_count(graph: Graph, layers: Collection[str] | None = None) -> int:
    """How many groups of channels `prune` tries."""
    return len(pruning_groups(graph, channel_classes(graph, "removal"), layers))


def _output_noise(trial: Trial, graph: Graph, params: Params, elimination: Elimination) -> float:
    """Noise over power at the outputs that a unit of the elimination's error makes."""
    db = trial.float_db(graph, params | elimination.trial)
    return float(10 ** (-db / 10) / max(elimination.errors[elimination.trial_chunks - 1], 1e-12))

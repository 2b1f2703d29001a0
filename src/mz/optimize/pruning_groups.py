"""Channels that pruning chooses among: sets of channel classes that the same layers make and read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from mz.graph import Graph, Weighted
from mz.optimize.channels import Channels
from mz.optimize.dead_channels import mixing_layers


@dataclass(frozen=True, slots=True)
class Use:
    """A weighted layer of a group. inputs, outputs: its channels of each class, int64 [classes, channels a class].

    mixes: all its inputs meet in every output; a depthwise layer passes channels on.
    """

    layer: Weighted
    inputs: np.ndarray
    outputs: np.ndarray
    mixes: bool


@dataclass(frozen=True, slots=True)
class PruningGroup:
    """classes: int64 [n], any of which may go. uses: every weighted layer that has them, in topological order."""

    classes: np.ndarray
    uses: tuple[Use, ...]

    @property
    def producers(self) -> tuple[Use, ...]:
        return tuple(use for use in self.uses if use.mixes and use.outputs.shape[1])

    @property
    def consumers(self) -> tuple[Use, ...]:
        return tuple(use for use in self.uses if use.mixes and use.inputs.shape[1])

    @property
    def name(self) -> str:
        return " + ".join(use.layer.name for use in self.producers)


def pruning_groups(
    graph: Graph, channels: Channels, layers: Collection[str] | None = None
) -> list[PruningGroup]:
    """The groups of classes that can go, in topological order of their first layer.

    channels: `channel_classes(graph, "removal")`. layers: only channels that those layers alone make.
    """
    mixing = {layer.name for layer in mixing_layers(graph)}
    seen: defaultdict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for layer in graph.weighted:
        counts = [
            np.bincount(side, minlength=channels.count)
            for side in (channels.of_inputs(graph, layer), channels.of_outputs(graph, layer))
        ]
        for number in np.flatnonzero((counts[0] + counts[1] > 0) & ~channels.fixed).tolist():
            seen[number].append((layer.name, int(counts[0][number]), int(counts[1][number])))
    alike: defaultdict[tuple[tuple[str, int, int], ...], list[int]] = defaultdict(list)
    for number, uses in seen.items():
        alike[tuple(uses)].append(number)
    groups = []
    for signature in sorted(alike, key=lambda signature: graph.order[signature[0][0]]):
        classes = np.array(alike[signature])
        parts = (_use(graph, channels, classes, name, name in mixing) for name, _, _ in signature)
        group = PruningGroup(classes, tuple(parts))
        made_by = {use.layer.name for use in group.producers}
        if made_by and group.consumers and (layers is None or made_by <= set(layers)):
            groups.append(group)
    return groups


def _use(graph: Graph, channels: Channels, classes: np.ndarray, name: str, mixes: bool) -> Use:
    layer = graph[name]
    assert isinstance(layer, Weighted)
    return Use(
        layer,
        _places(channels.of_inputs(graph, layer), classes),
        _places(channels.of_outputs(graph, layer), classes),
        mixes,
    )


def _places(side: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Where each class is in `side`, which has each of them equally often: int64 [classes, times]."""
    return np.stack([np.flatnonzero(side == number) for number in classes])

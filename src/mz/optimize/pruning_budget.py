"""Which channels go, so that the network gets as much smaller as asked for at the least error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mz.archive.model import kernel_shape
from mz.errors import UserError
from mz.graph import Graph, Weighted
from mz.optimize.channels import Channels
from mz.optimize.elimination import Elimination


def choose_channels(
    graph: Graph,
    channels: Channels,
    eliminations: Sequence[Elimination],
    weights: Sequence[float],
    ratio: float,
    budget: str,
) -> np.ndarray:
    """bool by class: what to remove so that `ratio` of the budget ("macs", "parameters" or "channels") is saved.

    Again and again the group whose next chunk costs least error a unit saved gives that chunk. weights: what a unit of
    each elimination's error does to the outputs. Raises UserError where not so much can go.
    """
    cost = _Cost(graph, channels, budget)
    wanted = ratio * cost.total()
    removed = np.zeros(channels.count, dtype=bool)
    taken = [0] * len(eliminations)
    saved = 0.0
    while saved < wanted:
        best, best_price, best_gain = -1, np.inf, 0.0
        for index, elimination in enumerate(eliminations):
            if taken[index] == len(elimination.chunks):
                continue
            gain = cost.saving(elimination, taken[index])
            price = weights[index] * _next_error(elimination, taken[index]) / gain if gain else np.inf
            if best < 0 or price < best_price:
                best, best_price, best_gain = index, price, gain
        if best < 0:
            raise UserError(
                f"pruning: {100 * ratio:g} % of the {budget} cannot be removed from {graph.name}; at most "
                f"{100 * saved / cost.total():.0f} % can, from {len(eliminations)} groups of channels"
            )
        chunk = eliminations[best].chunks[taken[best]]
        cost.take(eliminations[best], len(chunk))
        removed[eliminations[best].group.classes[chunk]] = True
        taken[best] += 1
        saved += best_gain
    return removed


def _next_error(elimination: Elimination, taken: int) -> float:
    before = elimination.errors[taken - 1] if taken else 0.0
    return float(elimination.errors[taken] - before)


class _Cost:
    """What each weighted layer still costs: by the channels that it has left on either side.

    fixed: what no channel saves, such as products of two tensors.
    """

    def __init__(self, graph: Graph, channels: Channels, budget: str) -> None:
        self.budget = budget
        self.inputs = {layer.name: len(channels.of_inputs(graph, layer)) for layer in graph.weighted}
        self.outputs = {layer.name: len(channels.of_outputs(graph, layer)) for layer in graph.weighted}
        self.mixes = {layer.name: getattr(layer, "groups", 1) == 1 for layer in graph.weighted}
        self.unit = {layer.name: self._unit(graph, layer) for layer in graph.weighted}
        weighted = sum(graph.macs(layer) for layer in graph.weighted)
        self.fixed = graph.coverage().macs - weighted if budget == "macs" else 0

    def _unit(self, graph: Graph, layer: Weighted) -> float:
        """Of one output channel, and where inputs mix of one pair of channels."""
        if self.budget == "channels":
            return 1.0
        whole = graph.macs(layer) if self.budget == "macs" else math.prod(kernel_shape(graph, layer))
        return whole / (self.outputs[layer.name] * (self.inputs[layer.name] if self.mixes[layer.name] else 1))

    def of(self, name: str, inputs: int, outputs: int) -> float:
        pairs = outputs * inputs if self.mixes[name] and self.budget != "channels" else outputs
        return self.unit[name] * pairs

    def total(self) -> float:
        return self.fixed + sum(self.of(name, self.inputs[name], self.outputs[name]) for name in self.unit)

    def saving(self, elimination: Elimination, chunk: int) -> float:
        size = len(elimination.chunks[chunk])
        total = 0.0
        for use in elimination.group.uses:
            name = use.layer.name
            inputs, outputs = self.inputs[name], self.outputs[name]
            less = self.of(name, inputs - size * use.inputs.shape[1], outputs - size * use.outputs.shape[1])
            total += self.of(name, inputs, outputs) - less
        return total

    def take(self, elimination: Elimination, size: int) -> None:
        for use in elimination.group.uses:
            self.inputs[use.layer.name] -= size * use.inputs.shape[1]
            self.outputs[use.layer.name] -= size * use.outputs.shape[1]


def parameter_count(graph: Graph, params: Mapping[str, Mapping[str, np.ndarray]]) -> int:
    """Weights and biases of the layers on the accelerator."""
    return sum(
        params[layer.name]["kernel"].size + params[layer.name]["bias"].size for layer in graph.weighted
    )

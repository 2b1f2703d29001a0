"""Fits the weights that a pass has left to what the whole network computed, layer by layer, by least squares.

Each layer's new weights minimize |Y - W' X' - b'|^2, with X' what reaches it in the changed network, all layers before
it fitted already, and Y what it gave in the old one; a ridge keeps W' near the weights it had, more where samples are
few. No labels, no gradients. Source: He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks"
(ICCV 2017), section 3.1, and section 3.2 for branches that meet in a sum, where the last one to end also takes up the
error of the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.graph import Conv, Dense, Graph, Input, Layer, Params, Weighted
from mz.graph.layers import UNBOUNDED
from mz.optimize.moments import has_patches
from mz.optimize.rescaling import by_channel, from_channels
from mz.quantize.covariance import at_places, chance, damped, patches_at, sample_places

Images = Mapping[str, np.ndarray]
"""float32 [N, *shape] by Input layer."""

Kept = Mapping[str, np.ndarray]
"""By weighted layer: which of its old output channels it still has, bool [O]."""

Change = tuple[Collection[str], Callable[[str, np.ndarray, "np.ndarray | None"], np.ndarray]]
"""Layers whose fitted weights are changed once more, and how: (layer, weights [G, O, K], covariance [G, K, K] of their
inputs or None where it was not taken) -> weights.
"""

NO_CHANGE: Change = ((), lambda name, rows, covariance: rows)

_JUDGES = 8


def held_out(images: Images) -> tuple[Images, Images]:
    """Images to fit to, and others to judge by what came of it: every eighth. A single one does both."""
    count = len(next(iter(images.values())))
    judges = np.arange(count) % _JUDGES == min(count, _JUDGES) - 1
    fitted = ~judges if count > 1 else judges
    return {name: x[fitted] for name, x in images.items()}, {name: x[judges] for name, x in images.items()}


def reconstruct(
    old: tuple[Graph, Params],
    new: tuple[Graph, Params],
    kept: Kept,
    images: Images,
    rng: np.random.Generator,
    change: Change = NO_CHANGE,
) -> Params:
    """Parameters for the new graph, whose layers are those of the old one with fewer channels or other weights.

    Layers that nothing has changed before or in stay as they are.
    """
    walk = _Walk(old, new, kept, images, rng, change)
    for layer in old[0].layers:
        if not layer.host:
            walk.visit(layer)
    return walk.params


class _Walk:
    """Both networks side by side, one layer at a time, on all images; a tensor is forgotten after its last reader."""

    def __init__(
        self,
        old: tuple[Graph, Params],
        new: tuple[Graph, Params],
        kept: Kept,
        images: Images,
        rng: np.random.Generator,
        change: Change,
    ) -> None:
        self.graph, self.old_params = old
        self.new_graph, self.given = new
        self.params = dict(self.given)
        self.kept, self.rng = kept, rng
        self.old: dict[str, np.ndarray] = {}
        self.new: dict[str, np.ndarray] = {}
        self.images = images
        self.altered, self.alter = change
        self.last = {name: layer.name for layer in self.graph.layers for name in layer.inputs}

    def visit(self, layer: Layer) -> None:
        changed = self.new_graph[layer.name]
        if isinstance(layer, Input):
            self.old[layer.name] = self.new[layer.name] = self.images[layer.name]
            return
        same = changed == layer and all(self.old[name] is self.new[name] for name in layer.inputs)
        same = same and layer.name not in self.altered
        if same and self.given.get(layer.name) is self.old_params.get(layer.name):
            self.old[layer.name] = self.new[layer.name] = run_layer(layer, self.old_params, self.old)
        else:
            if isinstance(layer, Weighted):
                assert isinstance(changed, Weighted)
                self.params[layer.name] = self.fitted(layer, changed)
            self.old[layer.name] = run_layer(layer, self.old_params, self.old)
            self.new[layer.name] = run_layer(changed, self.params, self.new)
        for name in layer.inputs:
            if self.last[name] == layer.name:
                self.old.pop(name, None)
                self.new.pop(name, None)

    def fitted(self, layer: Weighted, changed: Weighted) -> dict[str, np.ndarray]:
        arrays = self.given[layer.name]
        x, new_x = self.old[layer.inputs[0]], self.new[layer.inputs[0]]
        rows = by_channel(changed, arrays["kernel"]).astype(np.float64)
        if not has_patches(layer, x.shape):
            if layer.name in self.altered:
                kernel = from_channels(changed, self.alter(layer.name, rows, None), arrays["kernel"].shape)
                arrays = arrays | {"kernel": kernel.astype(np.float32)}
            return arrays | {"bias": arrays["bias"] + self.shift(layer, changed, arrays)}
        assert isinstance(layer, Conv | Dense) and isinstance(changed, Conv | Dense)
        places = sample_places(layer, x.shape, self.rng)
        samples = patches_at(changed, new_x, places).astype(np.float64)
        wanted = self.wanted(layer, x, places)
        groups = len(samples)
        rows, bias = fit(
            rows.reshape(groups, -1, samples.shape[2]),
            samples,
            wanted.T.reshape(groups, -1, len(places)).transpose(0, 2, 1),
            partial(self.alter, layer.name),
        )
        kernel = from_channels(changed, rows.reshape(len(arrays["bias"]), -1), arrays["kernel"].shape)
        return arrays | {"kernel": kernel.astype(np.float32), "bias": bias.reshape(-1).astype(np.float32)}

    def wanted(self, layer: Conv | Dense, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        """What the kept channels should give before the clip, float64 [places, O]."""
        kept, arrays = self.kept[layer.name], self.old_params[layer.name]
        samples = patches_at(layer, x, places).astype(np.float64)
        rows = by_channel(layer, arrays["kernel"]).astype(np.float64)
        rows = rows.reshape(len(samples), -1, samples.shape[2]).transpose(0, 2, 1)
        found = (samples @ rows).transpose(1, 0, 2).reshape(len(places), -1) + arrays["bias"]
        found = found[:, kept]
        if isinstance(layer, Conv) and (other := self.graph.summand(layer)):
            old, new = (at_places(layer, live[other], places) for live in (self.old, self.new))
            found += old[:, kept] - new
        return found

    def shift(self, layer: Weighted, changed: Weighted, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Mean over images and places of what the kept channels lack before the clip, float32 [O]."""
        means = []
        sides = ((layer, self.old_params, self.old), (changed, {changed.name: arrays}, self.new))
        for part, params, live in sides:
            free = dataclasses.replace(part, clip=UNBOUNDED, clip_by_channel=False)
            found = run_layer(free, params, live)
            axes = tuple(range(found.ndim - 1)) if isinstance(layer, Dense) else (0, 2, 3)
            means.append(found.mean(axis=axes, dtype=np.float64))
        return np.asarray(means[0][self.kept[layer.name]] - means[1], np.float32)


def fit(
    rows: np.ndarray,
    samples: np.ndarray,
    wanted: np.ndarray,
    alter: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda rows, covariance: rows,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [G, O, K] and bias [G, O] that give `wanted` [G, P, O] from `samples` [G, P, K] best, near `rows`.

    alter: changes the weights before the bias is set, given the damped covariance.
    """
    mean, target = samples.mean(axis=1, keepdims=True), wanted.mean(axis=1, keepdims=True)
    centred = samples - mean
    residual = wanted - target - centred @ rows.transpose(0, 2, 1)
    turned = centred.transpose(0, 2, 1)
    count, size = samples.shape[1:]
    covariance = damped(turned @ centred / count, chance(count, size))
    moved = np.linalg.solve(covariance, turned @ residual / count)
    rows = alter(rows + moved.transpose(0, 2, 1), covariance)
    return rows, (target - mean @ rows.transpose(0, 2, 1))[:, 0]


def run_layer(layer: Layer, params: Params, live: Mapping[str, np.ndarray]) -> np.ndarray:
    """One layer in float32 on tensors by name."""
    names = dict.fromkeys(layer.inputs)
    inputs = tuple(Input(name=name, inputs=(), shape=live[name].shape[1:]) for name in names)
    session = FloatSession(Graph("layer", (*inputs, layer), (layer.name,)), params)
    return session.run({name: live[name] for name in names})[layer.name]

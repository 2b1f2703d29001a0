"""What the float network's linear layers give at sampled places, and the means of what they read: gathered in one pass,
before the walk through the integer network asks for them layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from mz.engines.float_ort import TappedSession
from mz.graph import Dense, Graph, Params, TensorQuant, Weighted
from mz.quantize.covariance import at_places, patches_at, sample_places
from mz.quantize.statistics import image_bytes, in_chunks
from mz.quantize.weights import by_channel
from mz.threads import side_by_side


@dataclass(frozen=True, slots=True)
class Target:
    """A layer's output before its clip at `places` (int64 [P], rising, batch in front), [P, O] in steps of its
    integers' scale: float16 of up to 8 bits, whose steps it resolves, float32 above; where `summand` is to be added to
    it, with that.

    half: how many of the places lie in the first half of the images.
    """

    places: np.ndarray
    half: int
    steps: np.ndarray
    summand: str | None


def float_targets(
    graph: Graph,
    params: Params,
    tensors: Mapping[str, TensorQuant],
    images: Mapping[str, np.ndarray],
    layers: Collection[Weighted],
    seed: int = 0,
) -> tuple[dict[str, np.ndarray], dict[str, Target]]:
    """Means over all images of what the layers with weights read, float64 [*shape], by that tensor; and the targets of
    `layers`, by layer.

    images: float32 [N, *shape] by Input layer.
    """
    count = len(next(iter(images.values())))
    means = {
        name: np.zeros(graph[name].shape) for name in sorted({layer.inputs[0] for layer in graph.weighted})
    }
    targets = {layer.name: _empty(graph, layer, tensors[layer.name].bits, count, seed) for layer in layers}
    taps = sorted(means.keys() | {target.summand for target in targets.values() if target.summand})
    session = TappedSession(graph, params, taps)

    def fill(layer: Weighted) -> None:
        """The layer's places in the images of `found`."""
        target = targets[layer.name]
        here = slice(*np.searchsorted(target.places, _per_image(layer, seen, seen + size)))
        places = target.places[here] - _per_image(layer, seen)[0]
        real = _outputs(layer, params[layer.name], found[layer.inputs[0]], places)
        if target.summand:
            real += at_places(layer, found[target.summand], places)
        steps = real / np.float32(tensors[layer.name].scale)
        most = np.finfo(target.steps.dtype).max
        target.steps[here] = np.clip(steps, -most, most)

    def add(name: str) -> None:
        for image in found[name]:
            means[name] += image

    seen = 0
    for part in in_chunks(images, image_bytes(graph, taps)):
        found = session.run(part)
        size = len(next(iter(part.values())))
        side_by_side(add, means)
        side_by_side(fill, layers)
        seen += size
    for mean in means.values():
        mean /= count
    return means, targets


def _empty(graph: Graph, layer: Weighted, bits: int, images: int, seed: int) -> Target:
    rng = np.random.default_rng([seed, *layer.name.encode()])
    places = sample_places(layer, (images, *graph[layer.inputs[0]].shape), rng)
    half = int(np.searchsorted(places, _per_image(layer, images // 2)[0]))
    channels = layer.shape[-1] if isinstance(layer, Dense) else layer.shape[0]
    steps = np.empty((len(places), channels), np.float16 if bits <= 8 else np.float32)
    return Target(places, half, steps, graph.summand(layer))


def _per_image(layer: Weighted, *images: int) -> list[int]:
    """The first place of each of these images."""
    each = math.prod(layer.shape[:-1] if isinstance(layer, Dense) else layer.shape[1:])
    return [each * image for image in images]


def _outputs(
    layer: Weighted, arrays: Mapping[str, np.ndarray], x: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """float32 [P, O]."""
    samples = patches_at(layer, x, places, threads=1)
    rows = by_channel(layer, arrays["kernel"]).reshape(len(samples), -1, samples.shape[2])
    found = np.matmul(samples, rows.transpose(0, 2, 1).astype(np.float32))
    return found.transpose(1, 0, 2).reshape(len(places), -1) + arrays["bias"]

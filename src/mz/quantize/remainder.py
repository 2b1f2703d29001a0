"""The float network taken up in the middle: what a change of one layer's tensor does to the network's outputs.

Layers are visited in order. Behind each one, the rest of the network is a network of its own, whose inputs are the
tensors that are still read; so no layer is computed again to judge a later one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mz.engines.float_ort import FloatSession
from mz.graph import Graph, Input, Layer, Params
from mz.report.statistics import SnrMeter

Tensors = Mapping[str, np.ndarray]
"""float32 [N, *shape] by layer."""

_LARGEST_BYTES = 256 << 20
_FEWEST_IMAGES, _ENOUGH_IMAGES, _PASS_MACS = 8, 32, 1 << 34


def image_limit(graph: Graph) -> int:
    """How many images keep the largest tensor within 256 MiB."""
    return max(1, _LARGEST_BYTES // (4 * max(math.prod(layer.shape) for layer in graph.layers)))


def enough_images(graph: Graph) -> int:
    """32 images, 8 at least where a pass over so many would take more than 2^34 multiply-accumulates: what is measured
    layer by layer takes a pass or two for each, and the larger a network, the more each image tells.
    """
    affordable = _PASS_MACS // max(1, graph.coverage().macs)
    return min(max(affordable, _FEWEST_IMAGES), _ENOUGH_IMAGES)


@dataclass
class Place:
    """One layer of the float network, with what it reads and makes on some images, and the network behind it.

    live: the tensors that later layers read, that of `layer` among them. expected: the network's outputs.
    """

    graph: Graph
    params: Params
    layer: Layer
    inputs: dict[str, np.ndarray]
    live: dict[str, np.ndarray]
    expected: Tensors
    _later: tuple[Layer, ...] = field(default=())

    @property
    def output(self) -> np.ndarray:
        return self.live[self.layer.name]

    def output_with(self, changed: Params) -> np.ndarray:
        """What the layer makes of the same inputs with other parameters."""
        return _run_alone(self.graph, self.layer, changed, self.inputs)

    def noise(self, output: np.ndarray) -> float:
        """Power of the change of the network's outputs over their power, mean over the outputs, were `output` the
        layer's tensor.
        """
        feeds = {name: self.live[name] for name in self._read} | {self.layer.name: output}
        found = self._rest.run(feeds)
        shares = [_share(expected, found.get(name, expected)) for name, expected in self.expected.items()]
        heard = [share for share in shares if not math.isnan(share)]
        return float(np.mean(heard)) if heard else 0.0

    @cached_property
    def _read(self) -> tuple[str, ...]:
        own = {layer.name for layer in self._later}
        wanted = {name for layer in self._later for name in layer.inputs} - own
        return tuple(name for name in self.live if name in wanted)

    @cached_property
    def _rest(self) -> FloatSession:
        name = self.layer.name
        sources = tuple(_source(self.graph[read]) for read in dict.fromkeys((*self._read, name)))
        made = {name, *(layer.name for layer in self._later)}
        outputs = tuple(output for output in self.graph.outputs if output in made)
        return FloatSession(Graph(self.graph.name, (*sources, *self._later), outputs), self.params)


def places(graph: Graph, params: Params, images: Tensors) -> Iterator[Place]:
    """Every layer of the accelerator in order; images float32 [N, *shape] by Input layer.

    A place is to be used before the next one is asked for. Tensors are dropped after their last reader.
    """
    expected = FloatSession(graph, params).run(images)
    last = {name: index for index, layer in enumerate(graph.layers) for name in layer.inputs}
    live: dict[str, np.ndarray] = {}
    for index, layer in enumerate(graph.layers):
        inputs = {name: live[name] for name in layer.inputs}
        is_input = isinstance(layer, Input)
        live[layer.name] = images[layer.name] if is_input else _run_alone(graph, layer, params, inputs)
        if not layer.host:
            yield Place(graph, params, layer, inputs, dict(live), expected, graph.layers[index + 1 :])
        for name in (*layer.inputs, layer.name):
            if last.get(name, -1) <= index:
                live.pop(name, None)


def _run_alone(graph: Graph, layer: Layer, params: Params, inputs: Tensors) -> np.ndarray:
    sources = tuple(_source(graph[name]) for name in inputs)
    return FloatSession(Graph(graph.name, (*sources, layer), (layer.name,)), params).run(inputs)[layer.name]


def _source(layer: Layer) -> Input:
    return Input(name=layer.name, inputs=(), shape=layer.shape)


def _share(expected: np.ndarray, found: np.ndarray) -> float:
    meter = SnrMeter()
    meter.update(expected, found)
    return meter.share

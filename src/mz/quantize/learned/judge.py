"""How far the real integers are from the float network: the integer engine on images that no step has learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.graph import Graph, Params, Quantization
from mz.quantize.learned.distillation import Target, total_loss
from mz.quantize.statistics import image_bytes, in_chunks

HELD_OUT_SHARE = 8
"""One image in so many is held out."""
_MOST_HELD_OUT = 256


def held_out(count: int) -> np.ndarray:
    """Which of `count` images judge, evenly spaced: bool [count], at least one True and, of two or more, one False."""
    chosen = np.zeros(count, bool)
    wanted = max(1, min(count // HELD_OUT_SHARE, _MOST_HELD_OUT))
    chosen[np.arange(wanted) * count // wanted] = True
    return chosen


class Judge:
    """The float network's tensors on some images, to measure quantizations of the same network against.

    images: float32 [N, *shape] by Input layer.
    """

    def __init__(
        self, graph: Graph, params: Params, images: Mapping[str, np.ndarray], targets: Sequence[Target]
    ) -> None:
        self._graph, self._params, self._targets = graph, params, targets
        self._taps = [target.layer for target in targets]
        self._parts = list(in_chunks(images, image_bytes(graph)))
        session = FloatSession(graph, params, taps=self._taps)
        self._expected = self._together([session.run(part) for part in self._parts])

    def loss(self, quantization: Quantization) -> float:
        """The distillation loss of these integers; less is better."""
        engine = IntegerOrtSession(self._graph, self._params, quantization, taps=self._taps)
        tensors = quantization.tensors
        found = self._together(
            [
                {
                    name: tensors[name].dequantize(q)
                    for name, q in engine.run(part).items()
                    if name in self._taps
                }
                for part in self._parts
            ]
        )
        return float(total_loss(self._graph, self._targets, self._expected, found))

    def _together(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in self._taps}

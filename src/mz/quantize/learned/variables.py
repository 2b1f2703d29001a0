"""What fine-tuning varies, and the integers that it stands for: kernels, biases, weight scales, activation scales.

Each variable is kept in a unit of its own, so that one learning rate means the same for all: a kernel in steps of the
scale that it began with, a bias in output ranges, a scale as the logarithm of its change. At the beginning the integers
are exactly those of the quantization given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from mz.emulator.numerics import weight_max
from mz.graph import Deconv, Graph, Input, Layer, Params, Quantization, Weighted, WeightQuant
from mz.quantize.groups import scale_groups
from mz.quantize.learned.integers import Integers
from mz.quantize.learned.straight_through import rounded
from mz.quantize.weights import BIAS_LIMIT, by_channel, from_channels

_BRINK = 0.45
"""How far from its integer, in steps, a weight may begin: what was rounded away from the nearest stays there."""
_MOST_SCALE_CHANGE = math.log(2)

Variables = dict[str, Tensor]
"""By `layer/kernel`, `layer/bias`, `layer/weight_scale` and, for the first tensor of a group, `layer/scale`."""


class Tuned:
    """A quantization whose integers follow from variables.

    per_layer: one weight scale a layer. fixed: tensors whose scales stay, beside those of the inputs. train_scales:
    False fixes all scales, those of weights included.
    """

    def __init__(
        self,
        graph: Graph,
        params: Params,
        start: Quantization,
        *,
        per_layer: bool = False,
        fixed: Collection[str] = (),
        train_scales: bool = True,
        device: str = "cpu",
    ) -> None:
        self.graph, self.params, self.start, self.device = graph, params, start, device
        self.variables: Variables = {}
        self._leader: dict[str, str] = {}
        for name, weight in start.weights.items():
            layer = graph[name]
            self._add(f"{name}/kernel", _brink(layer, params[name]["kernel"], weight))
            self._add(f"{name}/bias", np.zeros(len(weight.bias)))
            if train_scales:
                self._add(f"{name}/weight_scale", np.zeros(1 if per_layer else len(weight.scale), np.float32))
        for group in scale_groups(graph):
            kept = any(name in fixed or isinstance(graph[name], Input) for name in group)
            if train_scales and not kept:
                self._add(f"{group[0]}/scale", np.zeros((), np.float32))
                self._leader |= dict.fromkeys(group, group[0])

    def _add(self, name: str, value: np.ndarray) -> None:
        self.variables[name] = torch.from_numpy(value).to(self.device).requires_grad_()

    def rate(self, name: str) -> float:
        """By what the learning rate of a variable is multiplied."""
        return _RATES[name.rpartition("/")[2]]

    def integers(self) -> Integers:
        """The integers as they are now, with gradients to the variables."""
        scales = {name: self._scale(name) for name in self.start.tensors}
        kernels, biases, weight_scales = {}, {}, {}
        for name, weight in self.start.weights.items():
            kernel, change = self.variables[f"{name}/kernel"], self.variables.get(f"{name}/weight_scale")
            scale = torch.from_numpy(weight.scale.copy()).to(self.device)
            if change is not None:
                scale = scale * torch.exp(change)
                kernel = kernel * _per_channel(self.graph[name], torch.exp(-change), tuple(kernel.shape))
            top = weight_max(weight.bits)
            kernels[name] = rounded(kernel.clamp(-top, top))
            weight_scales[name] = scale
            biases[name] = self._bias(name, weight, scales, scale).to(torch.float32)
        return Integers(self.graph, self.params, self.start.tensors, scales, kernels, biases, weight_scales)

    def _scale(self, name: str) -> Tensor:
        start = torch.tensor(float(self.start.tensors[name].scale), dtype=torch.float32, device=self.device)
        return (
            start * torch.exp(self.variables[f"{self._leader[name]}/scale"])
            if name in self._leader
            else start
        )

    def _bias(self, name: str, weight: WeightQuant, scales: Mapping[str, Tensor], scale: Tensor) -> Tensor:
        """float64: integers of up to 32 bits (54 beside wide accumulators)."""
        source = self.start.tensors[self.graph[name].inputs[0]]
        y = self.start.tensors[name]
        step = float(source.scale) * weight.scale.astype(np.float64)
        real = torch.from_numpy(weight.bias * step).to(self.device)
        real = real + self.variables[f"{name}/bias"] * (float(y.scale) * y.q_max)
        now = scales[self.graph[name].inputs[0]].double() * scale.double()
        limit = BIAS_LIMIT[32 if source.bits <= 8 and weight.bits <= 8 else 64]
        return rounded((real / now).clamp(-limit, limit))

    @torch.no_grad()
    def project(self) -> None:
        """Brings variables that a step drove beyond what integers can hold back to the edge."""
        for name, value in self.variables.items():
            layer, _, what = name.rpartition("/")
            if what in ("scale", "weight_scale"):
                value.clamp_(-_MOST_SCALE_CHANGE, _MOST_SCALE_CHANGE)
        for layer, weight in self.start.weights.items():
            kernel, change = self.variables[f"{layer}/kernel"], self.variables.get(f"{layer}/weight_scale")
            limit = torch.tensor(weight_max(weight.bits) * (1 - 1e-6), device=self.device)
            if change is not None:
                limit = limit * _per_channel(self.graph[layer], torch.exp(change), tuple(kernel.shape))
            torch.minimum(torch.maximum(kernel, -limit), limit, out=kernel)

    @torch.no_grad()
    def quantization(self) -> Quantization:
        """The quantization that the variables stand for now."""
        now = self.integers()
        tensors = {
            name: dataclasses.replace(t, scale=np.float32(now.scales[name].item()))
            for name, t in self.start.tensors.items()
        }
        weights = {}
        for name, weight in self.start.weights.items():
            kernel = now.kernels[name].cpu().numpy().astype(weight.kernel.dtype)
            bias = self._bias(name, weight, now.scales, now.weight_scales[name])
            scale = now.weight_scales[name].cpu().numpy()
            weights[name] = WeightQuant(kernel, scale, bias.cpu().numpy().astype(np.int64), weight.bits)
        return Quantization(tensors, weights)


_RATES = {"kernel": 7.0, "bias": 0.1, "weight_scale": 0.3, "scale": 0.3}
"""Units in which the learning rate is meant. A kernel's is 7 steps whatever its bits, the largest weight of 4 bits: a
rate that moves 8-bit weights by many steps adds more noise than their rounding has.
"""


def device() -> str:
    """CUDA where PyTorch has it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _per_channel(layer: Layer, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values [O] (or [1]) so that they multiply the layer's kernel of `shape`."""
    ones = (1,) * (len(shape) - 2)
    if not isinstance(layer, Deconv) or len(values) == 1:
        return values.reshape(-1, 1, *ones)
    # kernel [I, O/groups, kh, kw]: the input channels of a group meet its own part of the outputs.
    grouped = values.reshape(layer.groups, shape[1])
    return grouped.repeat_interleave(shape[0] // layer.groups, dim=0).reshape(*shape[:2], *ones)


def _brink(layer: Layer, kernel: np.ndarray, weight: WeightQuant) -> np.ndarray:
    """The real weights in steps of their scale, moved to where they round to the integers that they have."""
    assert isinstance(layer, Weighted)
    rows, q = (by_channel(layer, values).astype(np.float64) for values in (kernel, weight.kernel))
    off = np.clip(rows / weight.scale.astype(np.float64)[:, None] - q, -_BRINK, _BRINK)
    top = weight_max(weight.bits)
    return from_channels(layer, np.clip(q + off, -top, top), kernel.shape).astype(np.float32)

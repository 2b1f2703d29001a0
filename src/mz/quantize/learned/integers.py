"""What the forward pass of the integer network as a torch function multiplies with, and the ends of what it gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mz.graph import Graph, Layer, Params, Quantization, TensorQuant
from mz.graph.layers import UNBOUNDED
from mz.quantize.learned.straight_through import rounded


@dataclass(frozen=True)
class Integers:
    """Everything that a forward pass multiplies with; each may carry gradients.

    tensors: zero points and bits. scales: float32 [] by tensor. kernels: integers in the float kernel's layout;
    biases: integers [O]; weight_scales: float32 [O]; these three by weighted layer.
    """

    graph: Graph
    params: Params
    tensors: Mapping[str, TensorQuant]
    scales: Mapping[str, Tensor]
    kernels: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]
    weight_scales: Mapping[str, Tensor]

    def present(self, *names: str) -> Quantization:
        """The `TensorQuant`s of these tensors with their scales as they are now."""
        return Quantization(
            tensors={
                name: dataclasses.replace(self.tensors[name], scale=np.float32(self.scales[name].item()))
                for name in names
            }
        )

    def real(self, name: str, h: Tensor) -> Tensor:
        """What centred integers of tensor `name` stand for."""
        return h * self.scales[name]


def constant(graph: Graph, params: Params, quantization: Quantization, dtype: torch.dtype) -> Integers:
    """The integers of a quantization, without gradients; `dtype` is that of all sums."""
    return Integers(
        graph,
        params,
        quantization.tensors,
        {name: torch.tensor(float(t.scale), dtype=torch.float32) for name, t in quantization.tensors.items()},
        {name: torch.from_numpy(w.kernel).to(dtype) for name, w in quantization.weights.items()},
        {name: torch.from_numpy(w.bias).to(dtype) for name, w in quantization.weights.items()},
        {name: torch.from_numpy(w.scale.copy()) for name, w in quantization.weights.items()},
    )


def quantize_input(integers: Integers, name: str, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Real values float32 [N, *shape] of an Input layer to centred integers."""
    t = integers.tensors[name]
    steps = torch.round(x / integers.scales[name].detach())
    return steps.clamp_(-t.zero_point, t.q_max - t.zero_point).to(dtype)


def bounds(layer: Layer, integers: Integers) -> tuple[Tensor, Tensor]:
    """The layer's integer bounds less the zero point, float64 []; a finite clip follows the output's scale.

    Tensor by tensor: a number over a tensor would be its product with the reciprocal, another bound at a tie.
    """
    t, scale = integers.tensors[layer.name], integers.scales[layer.name].double()
    ends = (-t.zero_point, t.q_max - t.zero_point)
    low, high = (
        torch.tensor(float(end), dtype=torch.float64)
        if np.isinf(bound)
        else rounded(torch.tensor(bound, dtype=torch.float64) / scale).clamp(*ends)
        for bound, end in zip(getattr(layer, "clip", UNBOUNDED), ends, strict=True)
    )
    return low, high

"""One block's reconstruction: each weight's fraction moves freely between its two integers and is then driven to one.

The fraction is a stretched sigmoid, h(a) = clip(1.2 sigmoid(a) - 0.1, 0, 1). To the output's error, over that at the
beginning, is added a multiple of mean(1 - |2 h - 1|^b), in which b falls from 20 to 2 (Nagel et al., "Up or Down?
Adaptive Rounding for Post-Training Quantization", ICML 2020, section 4). They begin from the float weights and leave
the fractions free for a while; here the rounding to begin with is a good one, and steps without pressure would only
forget it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mz.emulator.numerics import weight_max
from mz.graph import Graph, Layer, Params, Quantization, WeightQuant
from mz.quantize.adaround import AdaRound
from mz.quantize.blocks import Block
from mz.quantize.learned.integers import Integers, constant
from mz.quantize.learned.lowering import run
from mz.quantize.learned.variables import device
from mz.quantize.weights import by_channel, from_channels

_LOW, _HIGH = -0.1, 1.1
_EDGE, _BRINK = 0.05, 0.15
"""How near to 0 or 1, and how near to 1/2, a fraction may begin."""
_SHARPEST, _BLUNTEST = 20.0, 2.0
_PRESSURE = 500.0
_BIAS_RATE = 0.1
_JUDGED_AT_ONCE = 32
_STEP_VALUES, _FEWEST_AT_ONCE = 1 << 22, 4
"""A step sees so many values of the block's largest tensor, as far as that leaves it some images: few large maps hold
as many places as many small ones, and beyond the caches a step of 32 images takes seconds.
"""


@dataclass(frozen=True)
class Given:
    """A block and its data. x: integers [N, *shape] of what it reads; expected: real [N, *shape]; apart: bool [N], the
    images that judge.
    """

    graph: Graph
    params: Params
    quantization: Quantization
    block: Block
    x: Mapping[str, np.ndarray]
    expected: np.ndarray
    apart: np.ndarray


def reconstruct(
    given: Given, error: float, names: Sequence[str], settings: AdaRound, seed: int
) -> tuple[Quantization, float]:
    """The block's weights with the rounding of layers `names` learned, and its error then.

    error: what `block_error` says of it now.
    """
    start = given.quantization
    fixed = _block_integers(given)
    soft = {name: _Soft(given, name, settings.train_bias, device()) for name in names}
    optimizer = torch.optim.Adam(
        [{"params": [s.variable for s in soft.values()], "lr": settings.learning_rate}]
        + [{"params": [s.bias for s in soft.values()], "lr": settings.learning_rate * _BIAS_RATE}]
        * settings.train_bias
    )
    before = max(error, 1e-12)
    learned_from = np.flatnonzero(~given.apart)
    batch = min(settings.batch_size, len(learned_from))
    steps, at_once = settings.epochs * (len(learned_from) // batch), min(batch, _at_once(given))
    rng = np.random.default_rng([seed, *given.block.output.encode()])
    order = np.concatenate([rng.permutation(learned_from) for _ in range(settings.epochs + 1)])
    for step in range(steps):
        chosen = np.sort(order[step * at_once : (step + 1) * at_once])
        fractions = torch.cat([s.fraction().reshape(-1) for s in soft.values()])
        undecided = (1 - (2 * fractions - 1).abs().pow(_exponent(step, steps))).mean()
        loss = _batch_error(given, _with(fixed, soft), chosen) / before + _PRESSURE * undecided
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        weights = start.weights | {name: s.weight() for name, s in soft.items()}
    learned = Quantization(start.tensors, weights)
    return learned, block_error(dataclasses.replace(given, quantization=learned))


class _Soft:
    """A layer's kernel on its way to integers."""

    def __init__(self, given: Given, name: str, train_bias: bool, place: str) -> None:
        self.start = given.quantization.weights[name]
        layer, x, y = given.graph[name], given.graph[name].inputs[0], given.quantization.tensors[name]
        base, fraction = _fractions(layer, given.params[name]["kernel"], self.start)
        logit = np.log((fraction - _LOW) / (_HIGH - fraction))
        self._base = torch.from_numpy(base).to(place)
        self.variable = torch.from_numpy(logit.astype(np.float32)).to(place).requires_grad_()
        self.bias = torch.zeros(
            len(self.start.bias), dtype=torch.float64, device=place, requires_grad=train_bias
        )
        self._range = float(y.scale) * y.q_max
        step = float(given.quantization.tensors[x].scale) * self.start.scale.astype(np.float64)
        self._step = torch.from_numpy(step).to(place)

    def fraction(self) -> Tensor:
        return (torch.sigmoid(self.variable) * (_HIGH - _LOW) + _LOW).clamp(0, 1)

    def kernel(self) -> Tensor:
        """Integers but for the fractions."""
        top = weight_max(self.start.bits)
        return (self._base + self.fraction()).clamp(-top, top)

    def bias_integers(self) -> Tensor:
        """Not rounded: a step of the bias is nothing beside one of the output."""
        return torch.from_numpy(self.start.bias).to(self.bias.device) + self.bias * self._range / self._step

    def weight(self) -> WeightQuant:
        kernel = torch.round(self.kernel()).cpu().numpy().astype(self.start.kernel.dtype)
        bias = torch.round(self.bias_integers()).cpu().numpy().astype(np.int64)
        return dataclasses.replace(self.start, kernel=kernel, bias=bias)


def _fractions(layer: Layer, kernel: np.ndarray, weight: WeightQuant) -> tuple[np.ndarray, np.ndarray]:
    """The lower one of the two integers between which each weight is to choose, float32, and how far it is above it.

    One of the two is the integer that it has now, the other that on the real weight's side; the fraction is the real
    weight's, moved to where it rounds to the integer that the weight has.
    """
    real = by_channel(layer, kernel).astype(np.float64) / weight.scale.astype(np.float64)[:, None]
    q = by_channel(layer, weight.kernel).astype(np.float64)
    base = np.where(real >= q, q, q - 1)
    low, high = np.where(base == q, _EDGE, 0.5 + _BRINK), np.where(base == q, 0.5 - _BRINK, 1 - _EDGE)
    fraction = np.clip(real - base, low, high)
    return (
        from_channels(layer, base, weight.kernel.shape).astype(np.float32),
        from_channels(layer, fraction, weight.kernel.shape),
    )


def _at_once(given: Given) -> int:
    """How many images a step may take."""
    names = (*given.block.inputs, *(layer.name for layer in given.block.layers))
    largest = max(math.prod(given.graph[name].shape) for name in names)
    return max(_FEWEST_AT_ONCE, _STEP_VALUES // largest)


def _exponent(step: int, steps: int) -> float:
    """Of the regularizer: blunt at the end, so that no fraction can rest between."""
    return _BLUNTEST + (_SHARPEST - _BLUNTEST) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _block_integers(given: Given) -> Integers:
    """What the block needs, on the device."""
    block, place = given.block, device()
    integers = constant(given.graph, given.params, given.quantization, torch.float32)
    return dataclasses.replace(
        integers,
        scales={
            name: integers.scales[name] for name in (*block.inputs, *(layer.name for layer in block.layers))
        },
        kernels={name: integers.kernels[name].to(place) for name in block.weighted},
        biases={name: integers.biases[name].to(place) for name in block.weighted},
        weight_scales={name: integers.weight_scales[name].to(place) for name in block.weighted},
    )


def _with(fixed: Integers, soft: Mapping[str, _Soft]) -> Integers:
    return dataclasses.replace(
        fixed,
        kernels={**fixed.kernels, **{name: s.kernel() for name, s in soft.items()}},
        biases={**fixed.biases, **{name: s.bias_integers().float() for name, s in soft.items()}},
    )


def _batch_error(given: Given, integers: Integers, chosen: np.ndarray) -> Tensor:
    """Squared error of the block's real output on these images, over its power."""
    tensors, place = given.quantization.tensors, device()
    known = {
        name: torch.from_numpy(q[chosen].astype(np.float32) - tensors[name].zero_point).to(place)
        for name, q in given.x.items()
    }
    output = given.block.output
    found = integers.real(output, run(integers, given.block.layers, known, [output])[output])
    expected = torch.from_numpy(given.expected[chosen]).to(place)
    return (found - expected).square().sum() / expected.square().sum().clamp_min(1e-12)


@torch.no_grad()
def block_error(given: Given) -> float:
    """Squared error of the block's real output over its power: mean of the batches of the images that judge."""
    integers = _block_integers(given)
    places = np.flatnonzero(given.apart)
    starts = range(0, len(places), _JUDGED_AT_ONCE)
    return float(
        np.mean([float(_batch_error(given, integers, places[s : s + _JUDGED_AT_ONCE])) for s in starts])
    )

"""What fine-tuning makes small: the distance of the integer network's tensors from the float network's, layer by layer.

Source of the normalized squared distance and of the choice of layers (the backbone's features and the outputs):
Finkelstein et al., "QFT: Post-training quantization via fast joint finetuning of all degrees of freedom" (2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mz.graph import Dense, GlobalAvgPool, Graph, Layer


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor to be kept close. kind: a name of LOSSES. factor: weight of its loss in the sum."""

    layer: str
    kind: str = "l2rel"
    factor: float = 1.0


def default_layers(graph: Graph) -> list[str]:
    """The accelerator's outputs and, before the last global mean, the backbone's features."""
    outputs = graph.accelerator_outputs()
    pools = [layer for layer in graph.layers if isinstance(layer, GlobalAvgPool) and not layer.host]
    features = [pools[-1].inputs[0]] if pools else []
    return list(dict.fromkeys([*features, *outputs]))


def total_loss(
    graph: Graph, targets: Sequence[Target], expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> Tensor:
    """Sum over the targets; real tensors [N, *shape] by layer."""
    losses = [
        target.factor
        * LOSSES[target.kind](found[target.layer], expected[target.layer], channel_axis(graph[target.layer]))
        for target in targets
    ]
    return torch.stack(losses).sum()


def channel_axis(layer: Layer) -> int:
    """Of a batch of the layer's tensors: the axis of classes and directions."""
    return -1 if isinstance(layer, Dense) else 1


def _l2(found: Tensor, expected: Tensor, axis: int) -> Tensor:
    return (found - expected).square().mean()


def _l2rel(found: Tensor, expected: Tensor, axis: int) -> Tensor:
    return (found - expected).square().sum() / expected.square().sum().clamp_min(1e-12)


def _cosine(found: Tensor, expected: Tensor, axis: int) -> Tensor:
    return 1 - torch.nn.functional.cosine_similarity(found, expected, dim=axis).mean()


def _cross_entropy(found: Tensor, expected: Tensor, axis: int) -> Tensor:
    """Less the expected distribution's own entropy, so that equality is 0."""
    wanted = torch.log_softmax(expected, axis)
    return (wanted.exp() * (wanted - torch.log_softmax(found, axis))).sum(axis).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "l2rel": _l2rel,
    "l2": _l2,
    "cosine": _cosine,
    "ce": _cross_entropy,
}

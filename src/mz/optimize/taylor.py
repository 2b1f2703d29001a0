"""How much the outputs change, to first order, when a channel's weights go: importance by gradients, without labels.

With y the outputs and w a channel's weights, the change is J w, J the Jacobian of y. Its power is the mean of
(v^T J w)^2 over random signs v, and one backward pass gives v^T J w of every channel.
Source: Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), section 3.1, where y is the
loss on labels; here it is the network's own outputs, in units of their power.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import numpy as np

from mz.engines.float_ort import TappedSession
from mz.errors import UserError
from mz.graph import Graph, Params, Precision
from mz.optimize.rescaling import by_channel
from mz.quantize import ActivationRange, Recipe, collect, image_bytes, quantize

_IMAGES, _BATCH = 64, 8


def taylor_scores(
    graph: Graph, params: Params, images: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """By weighted layer, what its output channels matter, float64 [O].

    images: float32 [N, *shape] by Input layer, of which 64 are looked at. Gradients are those of the 16-bit integer
    network, whose outputs are the float ones to 60 dB. Raises UserError without PyTorch.
    """
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "pruning: importance=taylor needs PyTorch: pip install 'mz[qft]', or importance=reconstruction"
        )
    import torch

    from mz.quantize.learned.integers import constant
    from mz.quantize.learned.lowering import forward

    sample = {name: value[:_IMAGES] for name, value in images.items()}
    session = TappedSession(graph, params)
    recipe = Recipe(Precision(16, 16), activation_range=ActivationRange("min_max"), weight_search=False)
    statistics = collect(session, [sample], image_bytes(graph))
    integers = constant(graph, params, quantize(graph, params, statistics, recipe), torch.float32)
    leaves = [integers.kernels[layer.name].requires_grad_() for layer in graph.weighted]
    scores = {layer.name: np.zeros(len(params[layer.name]["bias"])) for layer in graph.weighted}
    for start in range(0, len(next(iter(sample.values()))), _BATCH):
        feeds = {name: value[start : start + _BATCH] for name, value in sample.items()}
        total = torch.zeros(())
        for y in forward(integers, feeds, graph.accelerator_outputs(), "cpu").values():
            signs = torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), y.shape))
            total = total + (signs * y).sum() / y.detach().square().sum().sqrt().clamp_min(1e-12)
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
        for layer, kernel, gradient in zip(graph.weighted, leaves, gradients, strict=True):
            if gradient is not None:
                products = by_channel(layer, (kernel.detach() * gradient).numpy())
                scores[layer.name] += np.square(products.sum(axis=(1, 2), dtype=np.float64))
    return scores

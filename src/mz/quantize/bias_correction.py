"""Iterative bias correction: the mean shift that quantization gives each channel is taken back in its bias.

Source: Finkelstein et al., "Fighting Quantization Bias With Bias" (CVPR-W 2019), section 3. A linear layer's
mean output is its output on the mean input, so the shift of the integer network's pre-activation is known
exactly from the mean of its input integers: one image, no simulation. Layers are taken in topological order,
all earlier ones already corrected.
"""

from __future__ import annotations

import numpy as np

from mz.emulator.linear import linear_sums
from mz.graph import Dense, TensorQuant, Weighted, WeightQuant


def mean_output(layer: Weighted, kernel: np.ndarray, mean_input: np.ndarray) -> np.ndarray:
    """Mean over images and positions of sum x w, per output channel: mean_input [*shape] -> float64 [O]."""
    sums = linear_sums(layer, mean_input[None].astype(np.float64), kernel.astype(np.float64))[0]
    return (
        sums.reshape(-1, sums.shape[-1]).mean(axis=0) if isinstance(layer, Dense) else sums.mean(axis=(1, 2))
    )


def corrected_bias(
    layer: Weighted,
    kernel: np.ndarray,
    bias: np.ndarray,
    float_mean: np.ndarray,
    weight: WeightQuant,
    x: TensorQuant,
    integer_mean: np.ndarray,
) -> np.ndarray:
    """The integer bias (int64 [O]) with which the mean pre-activation equals the float network's.

    kernel, bias: float32. float_mean: mean input of the float network; integer_mean: mean of q - z in the
    integer network, both [*shape] over the same images.
    """
    wanted = mean_output(layer, kernel, float_mean) + bias
    step = float(x.scale) * weight.scale.astype(np.float64)
    return np.rint(wanted / step - mean_output(layer, weight.kernel, integer_mean)).astype(np.int64)

"""Iterative bias correction: the mean shift that quantization gives each channel is taken back in its bias.

Source: Finkelstein et al., "Fighting Quantization Bias With Bias" (CVPR-W 2019), section 3. A linear layer's
mean output is its output on the mean input, so the shift of the integer network's pre-activation is known
exactly from the mean of its input integers: one image, no simulation. Layers are taken in topological order,
all earlier ones already corrected.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mz.emulator.linear import tap_slices
from mz.graph import Conv, Deconv, Dense, TensorQuant, Weighted, WeightQuant
from mz.quantize.covariance import kernel_taps, whole_map
from mz.quantize.weights import by_channel


def mean_output(layer: Weighted, kernel: np.ndarray, mean_input: np.ndarray) -> np.ndarray:
    """Mean over images and positions of sum x w, per output channel: mean_input [*shape] -> float64 [O].

    Every weight meets the mean of what it is multiplied with, so that there is one product a weight to be done.
    """
    met = _met(layer, mean_input)
    rows = by_channel(layer, kernel).astype(np.float64)
    return np.asarray(np.matmul(rows.reshape(len(met), -1, rows.shape[1]), met[:, :, None]).reshape(-1))


def _met(layer: Weighted, mean_input: np.ndarray) -> np.ndarray:
    """What the weights of one output channel are multiplied with, mean over positions: float64 [groups, weights]."""
    if isinstance(layer, Dense):
        return mean_input.reshape(1, -1, mean_input.shape[-1]).mean(axis=1, dtype=np.float64)
    assert isinstance(layer, Conv | Deconv)
    (whole,) = whole_map(layer, mean_input[None], 0)
    rows, columns, strides = kernel_taps(layer)
    _, height, width = layer.shape
    taps = partial(tap_slices, size=(height, width), strides=strides, dilations=layer.dilations)
    over_columns = [
        whole[:, :, taps((0, j))[1]].mean(axis=2, dtype=np.float64) for j in range(layer.kernel_shape[1])
    ]
    met = [over_columns[j][:, taps((i, j))[0]].mean(axis=1) for i, j in zip(rows, columns, strict=True)]
    return np.stack(met, axis=1).reshape(layer.groups, -1)


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

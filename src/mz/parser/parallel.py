"""Layers of one tensor whose outputs are added: one layer, as RepVGG, MobileOne and RepViT are meant to be deployed.

A file of the network as it was trained has the branches still. Each has a tensor of 8 bits of its own, and all read the
same map again. Source: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again" (CVPR 2021), section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mz.graph import Add, Conv, Dense, Layer, Weighted
from mz.graph.layers import UNBOUNDED
from mz.parser.draft import Affine, Draft, per_channel

Arrays = Mapping[str, np.ndarray]


def merge_parallel(draft: Draft) -> None:
    """k * x + l * x is (k + l) * x, where all taps of l are taps of k, and both have the same groups.

    Thus x itself and a factor for each channel go into a depthwise convolution, and no other: a tap near 1 in one of
    hundreds of weights would leave few integers to the rest (docs/bring-your-own.md has figures).
    """
    for name in list(draft.layers):
        total = draft.layers.get(name)
        if not isinstance(total, Add) or total.host or len(set(total.inputs)) < 2:
            continue
        one, other = (draft.layers[source] for source in total.inputs)
        if not _merged(draft, total, one, other):
            _merged(draft, total, other, one)


def _merged(draft: Draft, total: Add, into: Layer, other: Layer) -> bool:
    """Whether `total` is now `into`, which has taken up `other`."""
    if not _is_branch(draft, total, into):
        return False
    (source,) = into.inputs
    whole = other.name == source
    if other.shape != total.shape or not (whole or _is_alone(draft, total, into, other)):
        return False
    found = _by_channel(other.shape) if whole else _as_weighted(draft, other)
    arrays = _taps(into, *found) if found else None
    if arrays is None:
        return False
    draft.params[into.name] = {
        name: draft.params[into.name][name].astype(np.float64) + array for name, array in arrays.items()
    }
    draft.note(into.name, f"{'its input' if whole else ', '.join(other.origin)} added by its weights")
    if not whole:
        draft.absorb(other.name, into.name)
    draft.absorb(total.name, into.name)
    return True


def _is_branch(draft: Draft, total: Add, layer: Layer) -> bool:
    return (
        isinstance(layer, Conv | Dense)
        and layer.clip == UNBOUNDED
        and layer.shape == total.shape
        and draft.sole_reader(layer.name, total.name)
    )


def _is_alone(draft: Draft, total: Add, into: Layer, other: Layer) -> bool:
    """Whether `other` has constants, and reads what `into` reads, for nothing but the sum."""
    return (
        isinstance(other, Affine | Conv | Dense)
        and other.inputs == into.inputs
        and draft.sole_reader(other.name, total.name)
    )


def _taps(into: Layer, other: Weighted, arrays: Arrays) -> Arrays | None:
    """Kernel and bias of `other` as those of a layer like `into`; None where it is no such layer."""
    if other.clip != UNBOUNDED:
        return None
    if isinstance(into, Dense):
        return arrays if isinstance(other, Dense) else None
    assert isinstance(into, Conv)
    if not isinstance(other, Conv) or (other.groups, other.strides) != (into.groups, into.strides):
        return None
    rows, columns = (_places(into, other, axis) for axis in (0, 1))
    kernel = arrays["kernel"]
    if rows is None or columns is None:
        return None
    spread = np.zeros((*kernel.shape[:2], *into.kernel_shape))
    spread[:, :, rows, columns] = kernel
    return {"kernel": spread, "bias": arrays["bias"]}


def _as_weighted(draft: Draft, layer: Layer) -> tuple[Weighted, Arrays] | None:
    """A layer with constants as one with weights; None where constants of an affine vary within a channel."""
    arrays = draft.params[layer.name]
    if isinstance(layer, Weighted):
        return layer, arrays
    constants = per_channel(arrays, 0, layer.shape[0])
    return _by_channel(layer.shape, **constants) if constants else None


def _by_channel(
    shape: tuple[int, ...], factor: np.ndarray | float = 1.0, offset: np.ndarray | float = 0.0
) -> tuple[Weighted, Arrays]:
    """A depthwise convolution of one tap: the tensor itself but for a factor and an offset for each channel."""
    channels = shape[0]
    conv = Conv(name="", inputs=(), shape=shape, kernel_shape=(1, 1), groups=channels)
    factor, offset = (np.broadcast_to(array, channels) for array in (factor, offset))
    return conv, {"kernel": factor.reshape(channels, 1, 1, 1), "bias": offset}


def _places(into: Conv, other: Conv, axis: int) -> slice | None:
    """Where along an axis the taps of `other` are among those of `into`; None where one is not."""
    taps, dilation = other.kernel_shape[axis], into.dilations[axis]
    first, between = divmod(into.pads[axis] - other.pads[axis], dilation)
    if between or first < 0 or first + taps > into.kernel_shape[axis]:
        return None
    if taps > 1 and other.dilations[axis] != dilation:
        return None
    return slice(first, first + taps)

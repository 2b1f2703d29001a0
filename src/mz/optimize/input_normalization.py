"""(x - mean) / std by channel as a part of the convolutions that read the image: the network then takes pixels.

A convolution of (x - mean) / std is one of x with kernel / std, less a constant, but for its padding: zeros there are
pixels of the mean's value. So the pixels are padded with the mean first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mz.errors import UserError
from mz.graph import Conv, Graph, Layer, Pad, Params
from mz.graph.layers import Pads
from mz.optimize.inputs import Changed, only_image, pointwise
from mz.optimize.rescaling import input_channels

_UNPADDED = (0, 0, 0, 0)


def fold_normalization(
    graph: Graph,
    params: Params,
    *,
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    source: str | None = None,
    separate: bool = False,
) -> Changed:
    """The network with its normalization inside, which takes pixels of 0..255.

    Convolutions that read the image take it up, behind a layer `NAME_pad1` that pads with the mean where they pad; for
    other layers, or with `separate` for all, it is a depthwise 1x1 convolution `name`. Raises UserError where the
    channels do not fit.
    """
    image = only_image(graph, source, name)
    channels = image.shape[0]
    if len(mean) != channels:
        raise UserError(f"{name}: a normalization of {len(mean)} channels for the {channels} of {image.name}")
    means, stds = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    arrays = dict(params)
    changes: dict[str, Layer] = {}
    pads: dict[Pads, Layer] = {}
    layers: list[Layer] = []
    for reader in graph.consumers[image.name]:
        if isinstance(reader, Conv) and not (reader.host or separate):
            arrays[reader.name] = _taken_up(reader, params[reader.name], means, stds)
            if any(reader.pads) and reader.pads not in pads:
                pads[reader.pads] = _padded(image, f"{name}_pad{len(pads) + 1}", reader.pads, mean)
            taken = pads.get(reader.pads, image).name
            changes[reader.name] = dataclasses.replace(reader, inputs=(taken,), pads=_UNPADDED)
            continue
        layers = [pointwise(name, image.name, image.shape, groups=channels)]
        arrays[name] = _by_channel(means, stds)
        inputs = tuple(name if one == image.name else one for one in reader.inputs)
        changes[reader.name] = dataclasses.replace(reader, inputs=inputs)
    known, place = [changes.get(layer.name, layer) for layer in graph.layers], graph.order[image.name] + 1
    known[place:place] = [*pads.values(), *layers]
    form = [{"step": "denormalize", "mean": list(mean), "std": list(std)}]
    return dataclasses.replace(graph, layers=tuple(known)), arrays, form


def _taken_up(
    layer: Conv, arrays: Mapping[str, np.ndarray], means: np.ndarray, stds: np.ndarray
) -> dict[str, np.ndarray]:
    """The parameters with which the layer makes of pixels what it made of normalized values."""
    read = input_channels(layer, len(means))
    kernel = arrays["kernel"] / stds[read][:, :, None, None]
    bias = arrays["bias"] - (kernel * means[read][:, :, None, None]).sum(axis=(1, 2, 3))
    return dict(arrays) | {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}


def _padded(image: Layer, name: str, pads: Pads, values: Sequence[float]) -> Pad:
    channels, height, width = image.shape
    top, left, bottom, right = pads
    shape = (channels, top + height + bottom, left + width + right)
    return Pad(name=name, inputs=(image.name,), shape=shape, pads=pads, values=tuple(map(float, values)))


def _by_channel(means: np.ndarray, stds: np.ndarray) -> dict[str, np.ndarray]:
    kernel = (1 / stds).reshape(-1, 1, 1, 1)
    return {"kernel": kernel.astype(np.float32), "bias": (-means / stds).astype(np.float32)}

"""EfficientNet-Lite: inverted residuals with ReLU6 and no squeeze-and-excite, for images of a fixed size.

From the published model (Tan and Le, EfficientNet, 2019; the Lite variants by Google, 2020): depth and width grow with
the variant, those of the stem, the first and the last stage do not. Padding is TensorFlow's SAME.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from mz.zoo.architectures.writer import Network, Sides

_EPSILON = 1e-3
_STEM_CHANNELS, _HEAD_CHANNELS, _CLASSES = 32, 1280, 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks alike but for the first one's stride. channels: of the output, at width 1."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def lay(network: Network, *, width: float, depth: float, size: int) -> None:
    """size: height and width of the image."""
    x = network.input((3, size, size))
    x, size = _conv(network, x, "_conv_stem", (_STEM_CHANNELS, 3, 3, 3), size, 2)
    x = _norm_relu6(network, x, "_bn0", _STEM_CHANNELS)
    channels, number = _STEM_CHANNELS, 0
    for place, stage in enumerate(_STAGES):
        fixed = place in (0, len(_STAGES) - 1)
        wider = _rounded(stage.channels * width)
        for repeat in range(stage.repeats if fixed else math.ceil(stage.repeats * depth)):
            stride = stage.stride if repeat == 0 else 1
            x, size = _block(network, x, f"_blocks.{number}", stage, channels, wider, stride, size)
            channels, number = wider, number + 1
    x, size = _conv(network, x, "_conv_head", (_HEAD_CHANNELS, channels, 1, 1), size, 1)
    x = _norm_relu6(network, x, "_bn1", _HEAD_CHANNELS)
    x = network.global_average_pool(x, "_avg_pooling")
    network.output(network.dense(x, "_fc", (_CLASSES, _HEAD_CHANNELS)), _CLASSES)


def _block(
    network: Network, x: str, name: str, stage: Stage, channels: int, wider: int, stride: int, size: int
) -> tuple[str, int]:
    """Expand, filter each channel, project; the input is added where the shape stays. Gives the new size too."""
    entry, inner = x, channels * stage.expansion
    if stage.expansion != 1:
        x, size = _conv(network, x, f"{name}._expand_conv", (inner, channels, 1, 1), size, 1)
        x = _norm_relu6(network, x, f"{name}._bn0", inner)
    kernel = (inner, 1, stage.kernel, stage.kernel)
    x, size = _conv(network, x, f"{name}._depthwise_conv", kernel, size, stride)
    x = _norm_relu6(network, x, f"{name}._bn1", inner)
    x, size = _conv(network, x, f"{name}._project_conv", (wider, inner, 1, 1), size, 1)
    x = network.batch_norm(x, f"{name}._bn2", wider, _EPSILON)
    return (network.add(x, entry, f"{name}.add") if stride == 1 and channels == wider else x), size


def _conv(
    network: Network, x: str, name: str, shape: tuple[int, int, int, int], size: int, stride: int
) -> tuple[str, int]:
    return network.conv(x, name, shape, stride, _same(size, shape[2], stride)), math.ceil(size / stride)


def _norm_relu6(network: Network, x: str, name: str, channels: int) -> str:
    return network.relu6(network.batch_norm(x, name, channels, _EPSILON), f"{name}.relu6")


def _same(size: int, kernel: int, stride: int) -> Sides:
    """TensorFlow's SAME padding: ceil(size / stride) pixels come out; an odd row of zeros goes to the far side."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total // 2, total - total // 2, total - total // 2


def _rounded(channels: float) -> int:
    """To a multiple of 8, never more than 10 % down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


ARCHITECTURES = {
    "efficientnet_lite0": functools.partial(lay, width=1.0, depth=1.0, size=224),
    "efficientnet_lite1": functools.partial(lay, width=1.0, depth=1.1, size=240),
    "efficientnet_lite2": functools.partial(lay, width=1.1, depth=1.2, size=260),
}

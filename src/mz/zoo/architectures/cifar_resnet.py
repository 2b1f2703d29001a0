"""The residual networks for CIFAR-10 (He et al., Deep Residual Learning, 2015, section 4.2): 6 n + 2 layers.

Shortcuts have no weights: where a stage begins they take every second row and column and add channels of zeros.
"""

from __future__ import annotations

import functools

from mz.zoo.architectures.writer import Network

_EPSILON = 1e-5
_CHANNELS = (16, 32, 64)
_CLASSES = 10


def lay(network: Network, *, blocks: int) -> None:
    """blocks: in each of the three stages."""
    x = network.input((3, 32, 32))
    x = network.relu(_conv_norm(network, x, "", 1, 3, _CHANNELS[0], 1), "relu")
    channels = _CHANNELS[0]
    for stage, wider in enumerate(_CHANNELS, 1):
        for place in range(blocks):
            x = _block(network, x, f"layer{stage}.{place}", channels, wider)
            channels = wider
    x = network.global_average_pool(x, "avg_pool")
    network.output(network.dense(x, "linear", (_CLASSES, channels)), _CLASSES)


def _block(network: Network, x: str, name: str, channels: int, wider: int) -> str:
    """Two convolutions and the shortcut; a block that widens also halves height and width."""
    stride = 1 if channels == wider else 2
    shortcut = x
    if stride == 2:
        shortcut = network.every_second_pixel(x, f"{name}.shortcut.slice")
        added = (wider - channels) // 2
        shortcut = network.pad_channels(shortcut, f"{name}.shortcut.pad", added, added)
    x = network.relu(_conv_norm(network, x, f"{name}.", 1, channels, wider, stride), f"{name}.relu1")
    x = _conv_norm(network, x, f"{name}.", 2, wider, wider, 1)
    return network.relu(network.add(x, shortcut, f"{name}.add"), f"{name}.relu2")


def _conv_norm(
    network: Network, x: str, block: str, number: int, inputs: int, outputs: int, stride: int
) -> str:
    shape = (outputs, inputs, 3, 3)
    x = network.conv(x, f"{block}conv{number}", shape, stride, (1, 1, 1, 1))
    return network.batch_norm(x, f"{block}bn{number}", outputs, _EPSILON)


ARCHITECTURES = {f"resnet{6 * n + 2}_cifar10": functools.partial(lay, blocks=n) for n in (3, 5, 7, 9)}

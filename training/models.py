"""The three networks that are bundled with mz, in PyTorch.

All take a normalized [N, 1, 32, 32] image and return 10 logits.  They are deliberately small (below
15 million multiply-accumulates per image) so that a whole test set is evaluated in seconds on a CPU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 10


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch normalization and (optionally) an activation, with readable names."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers["bn"] = nn.BatchNorm2d(outputs)
    if act is not None:
        layers["act"] = act()
    return nn.Sequential(layers)


class Classifier(nn.Module):
    """What the three networks share: a feature extractor, global average pooling and a linear layer."""

    def __init__(self, features: OrderedDict[str, nn.Module], channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flatten(self.pool(self.features(x))))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection, projected by a 1x1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, 3, stride, act=nn.ReLU)
        self.conv2 = conv_bn(outputs, outputs, 3)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_bn(inputs, outputs, 1, stride)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv2(self.conv1(x)) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Channel attention: a gate in 0..1 for every channel, computed from the channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, optional squeeze-and-excite, and a linear 1x1 projection.

    The input is added where the block changes neither the size of the map nor the number of channels.
    """

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        kernel: int,
        stride: int,
        act: type[nn.Module],
        squeezed: int = 0,
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expanded != inputs:
            layers["expand"] = conv_bn(inputs, expanded, 1, act=act)
        layers["depthwise"] = conv_bn(expanded, expanded, kernel, stride, groups=expanded, act=act)
        if squeezed:
            layers["se"] = SqueezeExcite(expanded, squeezed)
        layers["project"] = conv_bn(expanded, outputs, 1)
        self.layers = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


def resnet8(widths: tuple[int, int, int] = (32, 64, 128)) -> Classifier:
    """ResNet-8 in the style of MLPerf Tiny: a stem and three stages of one basic block each.

    The stem has stride 2, unlike MLPerf Tiny's, which buys twice the width for the same work.
    """
    first, second, third = widths
    features: OrderedDict[str, nn.Module] = OrderedDict()
    features["stem"] = conv_bn(1, first, 3, 2, act=nn.ReLU)
    features["stage1"] = BasicBlock(first, first, 1)
    features["stage2"] = BasicBlock(first, second, 2)
    features["stage3"] = BasicBlock(second, third, 2)
    return Classifier(features, third)


# One block a row: expanded channels, output channels, stride.
MOBILENET_V2_BLOCKS: tuple[tuple[int, int, int], ...] = (
    (64, 32, 1),
    (128, 48, 2),
    (192, 48, 1),
    (192, 48, 1),
    (192, 64, 2),
    (256, 64, 1),
)


def mobilenet_v2(
    stem: int = 32, blocks: tuple[tuple[int, int, int], ...] = MOBILENET_V2_BLOCKS, head: int = 256
) -> Classifier:
    """MobileNetV2 for 32x32 images: the stem halves the map once, so most work is on 16x16 and 8x8.

    Few, wide blocks rather than many narrow ones, because integer matrix kernels need wide 1x1 convolutions.
    """
    features: OrderedDict[str, nn.Module] = OrderedDict()
    features["stem"] = conv_bn(1, stem, 3, 2, act=nn.ReLU6)
    channels = stem
    for number, (expanded, outputs, stride) in enumerate(blocks, 1):
        features[f"block{number}"] = InvertedResidual(channels, expanded, outputs, 3, stride, nn.ReLU6)
        channels = outputs
    features["head"] = conv_bn(channels, head, 1, act=nn.ReLU6)
    return Classifier(features, head)


# One block a row: kernel, expanded channels, output channels, stride, squeezed channels, activation.
MOBILENET_V3_BLOCKS: tuple[tuple[int, int, int, int, int, type[nn.Module]], ...] = (
    (3, 64, 32, 1, 16, nn.ReLU),
    (3, 96, 48, 2, 24, nn.ReLU),
    (3, 144, 48, 1, 40, nn.Hardswish),
    (5, 144, 48, 1, 40, nn.Hardswish),
    (3, 192, 64, 1, 48, nn.Hardswish),
)


def mobilenet_v3(
    stem: int = 32,
    blocks: tuple[tuple[int, int, int, int, int, type[nn.Module]], ...] = MOBILENET_V3_BLOCKS,
    head: int = 256,
) -> Classifier:
    """MobileNetV3 for 32x32 images, with squeeze-and-excite on the 16x16 and 8x8 maps only.

    On smaller maps the global average pool of the squeeze would see only a few values.
    """
    features: OrderedDict[str, nn.Module] = OrderedDict()
    features["stem"] = conv_bn(1, stem, 3, 2, act=nn.Hardswish)
    channels = stem
    for number, (kernel, expanded, outputs, stride, squeezed, act) in enumerate(blocks, 1):
        features[f"block{number}"] = InvertedResidual(
            channels, expanded, outputs, kernel, stride, act, squeezed
        )
        channels = outputs
    features["head"] = conv_bn(channels, head, 1, act=nn.Hardswish)
    return Classifier(features, head)


NETWORKS: dict[str, Callable[[], Classifier]] = {
    "resnet8_fashion": resnet8,
    "mobilenet_v2_fashion": mobilenet_v2,
    "mobilenet_v3_fashion": mobilenet_v3,
}


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters (the batch normalizations' running statistics are not counted)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module) -> int:
    """Multiply-accumulates of the convolutions and linear layers for one image."""
    total = 0

    def add(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1] * module.in_channels // module.groups
            total += kernel * output[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.in_features * module.out_features

    handles = [module.register_forward_hook(add) for module in model.modules()]
    was_training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, 32, 32))
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return total

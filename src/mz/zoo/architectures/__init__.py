"""Architectures whose trained weights are published as PyTorch checkpoints: the ONNX file is built here from both.

One file a family. BatchNorm stays as nodes, names are those of the checkpoint, and the same checkpoint gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mz.zoo.architectures import cifar_resnet, efficientnet_lite
from mz.zoo.architectures.writer import Network
from mz.zoo.checkpoint import read_checkpoint

VERSION = 1
"""Counts changes of what is built, so that files in users' caches are built anew."""

ARCHITECTURES: dict[str, Callable[[Network], None]] = {
    **efficientnet_lite.ARCHITECTURES,
    **cifar_resnet.ARCHITECTURES,
}
"""Name, as `paths.source.architecture` has it -> function that lays the layers."""


def recipe(architecture: str) -> str:
    """A text that changes whenever the bytes that `build` makes of a checkpoint would."""
    return f"{architecture} {VERSION}"


def build(architecture: str, checkpoint: Path) -> bytes:
    """The ONNX file of an architecture with a checkpoint's weights.

    Raises UserError where the checkpoint cannot be read or does not belong to the architecture.
    """
    network = Network(architecture, read_checkpoint(checkpoint), str(checkpoint))
    ARCHITECTURES[architecture](network)
    return network.finish()


__all__ = ["ARCHITECTURES", "VERSION", "build", "recipe"]

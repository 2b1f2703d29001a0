"""A bundled network, optimized once for all tests of the stages, and a folder of coarse noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mz import archive as har
from mz import flow
from mz.flow.options import ModelRef, OptimizeOptions


@pytest.fixture(scope="session")
def resnet8_har(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = flow.optimize(ModelRef(model="resnet8_fashion"), OptimizeOptions(calib_count=128))
    path = tmp_path_factory.mktemp("flow") / "resnet8_fashion.har"
    har.write(result.archive, path)
    return path


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images of 16x16."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for index in range(24):
        pixels = rng.normal(128, 60, (4, 4, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def short_tables(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a target whose activation functions have 8 bits at most."""
    path = tmp_path_factory.mktemp("archs") / "short.yaml"
    limit = "{activation_bits: [4, 8], reason: tables have 256 entries, remedy: give it 8 bits}"
    path.write_text(f"base: [hw_archs/mcu.yaml]\nname: short\nlayers: {{activation: {limit}}}\n")
    return str(path)

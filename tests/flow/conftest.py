"""A bundled network, optimized once for all tests of the stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from mz import archive as har
from mz import flow
from mz.flow.options import ModelRef, OptimizeOptions


@pytest.fixture(scope="session")
def resnet8_har(tmp_path_factory: pytest.TempPathFactory) -> Path:
    result = flow.optimize(ModelRef(model="resnet8_fashion"), OptimizeOptions(calib_count=128))
    path = tmp_path_factory.mktemp("flow") / "resnet8_fashion.har"
    har.write(result.archive, path)
    return path

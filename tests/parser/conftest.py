"""The fixture that builds, parses and compares in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from tests.parser.networks import network, prove

from mz.parser import ParseResult


@pytest.fixture
def proven(tmp_path: Path) -> Callable[..., ParseResult]:
    """`network` and `prove` in one: builds, parses, compares."""

    def build_and_prove(nodes: Any, inputs: Any, constants: Any = None, **options: Any) -> ParseResult:
        nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else nodes
        inputs = inputs if isinstance(inputs, Mapping) else {"x": inputs}
        building = {key: options.pop(key) for key in ("outputs", "opset") if key in options}
        return prove(network(nodes, inputs, constants, **building), tmp_path, **options)

    return build_and_prove

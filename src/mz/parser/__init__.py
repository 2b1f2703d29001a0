"""ONNX to graph: `parse`, the cut that it shares with the baseline, and the proof of its result.

Stands on the graph alone; engines are passed in where the proof needs them.
"""

from __future__ import annotations

from mz.parser.onnx_file import cut_model, input_names
from mz.parser.parity import parity_db, require_parity, signal_to_noise_db
from mz.parser.parse import ParseResult, parse
from mz.parser.rules import host_operators, supported_operators

__all__ = [
    "ParseResult",
    "cut_model",
    "host_operators",
    "input_names",
    "parity_db",
    "parse",
    "require_parity",
    "signal_to_noise_db",
    "supported_operators",
]

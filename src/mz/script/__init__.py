"""The model-script language (`.alls`): text -> statements -> settings, and settings -> text.

The grammar is that of the published scripts; docs/model-script.md states it and every command carried here. Imports
`mz.graph` and `mz.errors` only.
"""

from __future__ import annotations

from mz.script.commands import apply
from mz.script.grammar import Glob, Name, Statement, Value, parse_script
from mz.script.render import render
from mz.script.settings import (
    OPTIMIZATION_LEVELS,
    ClippingRange,
    Equalization,
    InputConversion,
    InputResize,
    NetworkChange,
    Normalization,
    OutputActivation,
    Pruning,
    ScriptSettings,
    TiledSqueezeExcite,
    Tuning,
)

__all__ = [
    "OPTIMIZATION_LEVELS",
    "ClippingRange",
    "Equalization",
    "Glob",
    "InputConversion",
    "InputResize",
    "Name",
    "NetworkChange",
    "Normalization",
    "OutputActivation",
    "Pruning",
    "ScriptSettings",
    "Statement",
    "TiledSqueezeExcite",
    "Tuning",
    "Value",
    "apply",
    "parse_script",
    "render",
]

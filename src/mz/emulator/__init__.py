"""The integer arithmetic and the numpy emulator that holds every other engine to it."""

from __future__ import annotations

from mz.emulator.constants import Constants, is_wide, layer_constants
from mz.emulator.session import NumpySession

__all__ = ["Constants", "NumpySession", "is_wide", "layer_constants"]

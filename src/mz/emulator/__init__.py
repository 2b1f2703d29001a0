"""The integer arithmetic and the numpy emulator that holds every other engine to it."""

from __future__ import annotations

from mz.emulator.constants import Constants, is_wide, layer_constants
from mz.emulator.saturation import Clipped, Saturation
from mz.emulator.session import NumpySession

__all__ = ["Clipped", "Constants", "NumpySession", "Saturation", "is_wide", "layer_constants"]

"""Full-precision optimization: passes `(graph, params, ...) -> (graph, params, report)` in floating point, before any
integer exists. One algorithm a file; none of them knows of quantization.
"""

from __future__ import annotations

from mz.optimize.bias_absorption import AbsorptionReport, absorb_bias
from mz.optimize.channels import Channels, channel_classes
from mz.optimize.equalization import MAX_SCALE, METHODS, EqualizationReport, equalize
from mz.optimize.peaks import Peaks, find_peaks
from mz.optimize.rescaling import rescale

__all__ = [
    "MAX_SCALE",
    "METHODS",
    "AbsorptionReport",
    "Channels",
    "EqualizationReport",
    "Peaks",
    "absorb_bias",
    "channel_classes",
    "equalize",
    "find_peaks",
    "rescale",
]

"""What a script asks of the optimization, once its names are resolved against the layers of a network."""

from __future__ import annotations

from dataclasses import dataclass, field

from mz.graph import Precision

OPTIMIZATION_LEVELS = (-100, 0, 1, 2, 3, 4)
COMPRESSION_LEVELS = (0, 1, 2, 3, 4, 5)
WEIGHT_CLIPPING_MODES = ("disabled", "mmse")

ClippingRange = tuple[str, float, float]
"""('percentile', low, high) in percent of the calibration values, or ('manual', low, high) in real values."""


@dataclass
class ScriptSettings:
    """None and empty mean that the script says nothing about it. Where it says two things, the later one holds.

    calib_batch_size, calib_count: images a batch and images in all, for calibration.
    precisions, activation_ranges, weight_clipping: by layer name.
    disabled: algorithms that the script switches off by `policy=disabled`.
    """

    optimization_level: int | None = None
    compression_level: int | None = None
    calib_batch_size: int | None = None
    calib_count: int | None = None
    precisions: dict[str, Precision] = field(default_factory=dict)
    activation_ranges: dict[str, ClippingRange] = field(default_factory=dict)
    weight_clipping: dict[str, str] = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)

"""What a script asks of the optimization, once its names are resolved against the layers of a network."""

from __future__ import annotations

from dataclasses import dataclass, field

from mz.graph import Precision

OPTIMIZATION_LEVELS = (-100, 0, 1, 2, 3, 4)
COMPRESSION_LEVELS = (0, 1, 2, 3, 4, 5)
WEIGHT_CLIPPING_MODES = ("disabled", "manual", "percentile", "mmse", "mmse_if4b")
RANGE_SEARCHES = ("mmse", "entropy")
"""Modes of activation_clipping that search a range; the published language has none."""
EQUALIZATION_METHODS = ("auto", "one_step", "two_step", "dfq")
POLICIES = ("enabled", "allowed", "disabled")
CONVERSIONS = (
    "bgr_to_rgb",
    "rgbx_to_rgb",
    "yuv_to_rgb",
    "nv12_to_rgb",
    "yuy2_to_rgb",
    "nv12_to_yuv",
    "yuy2_to_yuv",
)
BUDGETS = ("macs", "parameters", "channels")
IMPORTANCES = ("reconstruction", "energy", "taylor", "l1", "l2")

ClippingRange = tuple[str, float, float]
"""('percentile', low, high) in percent of the values seen, or ('manual', low, high) in real values; other modes
have no bounds: ('mmse', 0, 0).
"""


@dataclass(frozen=True, slots=True)
class Normalization:
    """(x - mean) / std done by the network: mean and std by channel, in units of 0..255. input: None is the only."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input: str | None = None


@dataclass(frozen=True, slots=True)
class InputConversion:
    """The network takes another format and converts it itself: one of CONVERSIONS."""

    name: str
    conversion: str
    input: str | None = None


@dataclass(frozen=True, slots=True)
class InputResize:
    """The network takes images of `shape` (height, width) and resizes them itself."""

    name: str
    shape: tuple[int, int]
    input: str | None = None


@dataclass(frozen=True, slots=True)
class OutputActivation:
    """A function after an output. layer: None is every output."""

    function: str
    layer: str | None = None


NetworkChange = Normalization | InputConversion | InputResize | OutputActivation


@dataclass(frozen=True, slots=True)
class Equalization:
    """policy: `allowed` keeps it where it measures better than none. layers: None is all. max_scale: None is mz's."""

    policy: str = "allowed"
    method: str = "auto"
    layers: tuple[str, ...] | None = None
    max_scale: float | None = None
    bias_absorption: str = "allowed"


@dataclass(frozen=True, slots=True)
class TiledSqueezeExcite:
    """The first `count` squeeze-and-excite blocks (sequential), or those of `layers` (custom)."""

    tile_height: int
    mode: str = "sequential"
    count: int | None = None
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruning:
    """ratio: share of the budget to remove. layers: only their output channels (None is all)."""

    ratio: float
    budget: str = "macs"
    importance: str = "reconstruction"
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """A gradient-based algorithm that was asked for: `finetune` or `adaround`, with its arguments as they stand."""

    algorithm: str
    arguments: tuple[tuple[str, object], ...] = ()


@dataclass
class ScriptSettings:
    """None and empty mean that the script says nothing about it. Where it says two things, the later one holds.

    calib_batch_size, calib_count: images a batch and images in all, for calibration.
    changes: what alters the network before anything else, in order. sparsity: share of zero weights by layer.
    four_bit_ratio, sixteen_bit_ratio: share of the weights to put to 4 and to 16 bits.
    dead_channels: policy of removing channels that do nothing.
    avgpool_reduction: (rows, columns) by global pool. precisions, activation_ranges, weight_clipping: by layer name.
    input_ranges: real bounds of what a layer reads, by its name and the place among its inputs, from 0.
    disabled: algorithms switched off by `policy=disabled`. notes: what was read and has no meaning here, and why.
    """

    optimization_level: int | None = None
    compression_level: int | None = None
    four_bit_ratio: float | None = None
    sixteen_bit_ratio: float | None = None
    calib_batch_size: int | None = None
    calib_count: int | None = None
    changes: list[NetworkChange] = field(default_factory=list)
    equalization: Equalization | None = None
    tse: TiledSqueezeExcite | None = None
    pruning: Pruning | None = None
    sparsity: dict[str, float] = field(default_factory=dict)
    dead_channels: str | None = None
    avgpool_reduction: dict[str, tuple[int, int]] = field(default_factory=dict)
    bias_correction: bool | None = None
    tuning: list[Tuning] = field(default_factory=list)
    precisions: dict[str, Precision] = field(default_factory=dict)
    activation_ranges: dict[str, ClippingRange] = field(default_factory=dict)
    weight_clipping: dict[str, ClippingRange] = field(default_factory=dict)
    input_ranges: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

"""What the stages are asked and what they answer: plain frozen data, no work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mz.archive import Archive

Advance = Callable[[int], Any]
Note = Callable[[str], None]


class Progress(Protocol):
    """progress(label, total, unit) opens a bar; the function that it gives is told how many more are done."""

    def __call__(
        self, label: str, total: int | None, unit: str = "images", /
    ) -> AbstractContextManager[Advance]: ...


def no_progress(label: str, total: int | None, unit: str = "images") -> AbstractContextManager[Advance]:
    """Shows nothing."""
    return nullcontext(lambda count: None)


def no_note(text: str) -> None:
    """Says nothing."""


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What a user says of a network that no YAML describes; None leaves it to the graph or to the usual.

    decode: gray, rgb or bgr. mean, std: in units of 0..255. resize: a name of `mz.flow.describe.RESIZES`.
    input_shape: without the batch axis, where the ONNX file leaves it open.
    """

    task: str | None = None
    decode: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: str | None = None
    input_shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Which network a command is about: a zoo name, a YAML, an archive, and perhaps another ONNX in its place.

    offline: never touch the network to get at it.
    images: of an ONNX file alone, which neither MODEL nor YAML describes.
    """

    model: str | None = None
    ckpt: Path | None = None
    yaml: Path | None = None
    har: Path | None = None
    start_nodes: tuple[str, ...] = ()
    end_nodes: tuple[str, ...] = ()
    offline: bool = False
    images: InputOptions = InputOptions()


@dataclass(frozen=True, slots=True)
class OptimizeOptions:
    """None leaves the choice to the model script, then to the network's YAML, then to mz.

    cache: whether statistics of the calibration set are taken from earlier runs and kept for later ones.
    """

    calib_path: Path | None = None
    calib_count: int | None = None
    script: Path | None = None
    optimization_level: int | None = None
    compression_level: int | None = None
    precision: str | None = None
    hw_arch: str | None = None
    seed: int = 0
    allow_fallback: bool = False
    batch_size: int | None = None
    cache: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the table requested / applied / why not. optional: to be applied only where it helps."""

    name: str
    requested: bool
    applied: bool
    note: str = ""
    optional: bool = False

    @property
    def missed(self) -> bool:
        return self.requested and not self.applied and not self.optional


@dataclass(frozen=True, slots=True)
class OptimizeResult:
    archive: Archive
    steps: tuple[Step, ...]
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchGoal:
    """max_degradation: points of `metric` that may be lost (None: the task's own metric, without labels agreement).

    budget_seconds: no recipe is begun that should end later. data_path, data_count: what the recipes are judged by.
    """

    max_degradation: float
    metric: str | None = None
    budget_seconds: float | None = None
    data_path: Path | None = None
    data_count: int | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """One recipe of a search. note: why it was left out; then nothing else is set.

    lost: by metric `value`, `low` and `high`, in points. seconds: to make and to judge it. weight_bytes: packed kernels
    and biases. bit_operations: multiply-accumulates, each weighed by the bits of both factors.
    """

    recipe: str
    note: str = ""
    lost: dict[str, dict[str, float]] = field(default_factory=dict)
    snr_db: float | None = None
    precision: str = ""
    seconds: float = 0.0
    weight_bytes: int = 0
    bit_operations: int = 0
    script: str = ""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """archive: of the recipe `best`, saved at `har`. holds: whether it keeps within the bound. images: that judged."""

    archive: Archive
    har: Path
    metric: str
    max_degradation: float
    tried: tuple[Tried, ...]
    best: str
    holds: bool
    images: int


@dataclass(frozen=True, slots=True)
class AnalyzeResult:
    """archive: with the report in it. report: `images`, `output_db`, `predicted_db`, `layers` (worst first) and
    `mends`. script: the archive's own with the changes of `mends` in it, which should bring `gain_db`.
    """

    archive: Archive
    report: dict[str, Any]
    script: str
    mends: tuple[str, ...]
    gain_db: float


@dataclass(frozen=True, slots=True)
class EvalOptions:
    target: str = "full_precision"
    data_path: Path | None = None
    data_count: int | None = None
    batch_size: int | None = None
    engine: str = "auto"
    visualize: Path | None = None
    dump_layers: Path | None = None
    saturation: bool = False


@dataclass(frozen=True, slots=True)
class EvalResult:
    """metrics in %, ci95 their 95 % intervals; baseline, degradation (points), agreement (%), its 95 % interval and
    snr_db with an archive only. count: images that were judged; damaged: what was said of each that could not be
    decoded.
    saturation: by layer, `total` output integers and how many of them were clipped to the bounds `low` and `high`.
    archive: what was evaluated, with all this but the speed in its report.
    """

    model: str
    target: str
    engine: str
    header: str
    metrics: dict[str, float]
    ci95: dict[str, tuple[float, float]]
    count: int
    images_per_second: float
    precision: str = "float32"
    baseline: dict[str, Any] | None = None
    degradation: dict[str, dict[str, float]] | None = None
    agreement: float | None = None
    agreement_ci95: tuple[float, float] | None = None
    snr_db: float | None = None
    damaged: tuple[str, ...] = ()
    saturation: dict[str, dict[str, int]] | None = None
    archive: Archive | None = None


@dataclass(frozen=True, slots=True)
class CompileResult:
    """plan: the sections `memory_plan`, `schedule` and `estimate` of the archive (docs/archive.md)."""

    archive: Archive
    har: Path
    files: tuple[Path, ...]
    summary: dict[str, Any] = field(default_factory=dict)
    verify: dict[str, Any] | None = None
    plan: dict[str, Any] = field(default_factory=dict)

"""The full-precision half of optimize: the passes that a recipe asks for, in their order, each with what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mz.flow.calibration import CalibrationSet
from mz.flow.equalize import DISABLED, IMAGES, run_equalization
from mz.flow.options import Progress, Step
from mz.flow.recipe import Plan
from mz.graph import Graph, Params


@dataclass(frozen=True, slots=True)
class FullPrecision:
    """A network after its passes. images: the calibration set as that network takes it."""

    graph: Graph
    params: Params
    images: CalibrationSet
    steps: tuple[Step, ...]
    report: dict[str, Any]


def full_precision(
    graph: Graph, params: Params, images: CalibrationSet, plan: Plan, progress: Progress
) -> FullPrecision:
    """Raises UserError for a pass that cannot be done on this network."""
    steps: list[Step] = []
    report: dict[str, Any] = {}
    if plan.equalization == DISABLED:
        steps.append(Step("equalization", False, False, plan.equalization_note))
    else:
        sample = images.sample(IMAGES)
        graph, params, step, report["equalization"] = run_equalization(
            graph, params, sample, plan.recipe, policy=plan.equalization, progress=progress
        )
        steps.append(step)
    return FullPrecision(graph, params, images, tuple(steps), report)

"""Everything that a network is on its target beside the files: checked against it, planned, scheduled, estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mz.compiler.emitters.c99 import arena_plan
from mz.compiler.estimate import estimate
from mz.compiler.hw_arch import check_quantization
from mz.compiler.limits import check_fits
from mz.compiler.memory_plan import MemoryPlan, plan_memory
from mz.compiler.packing import Packed, pack
from mz.compiler.schedule import Schedule, schedule
from mz.graph import Graph, Params, Quantization
from mz.zoo import HwArch

FILLINGS = (1.0, 0.75, 0.5, 0.35, 0.25)
"""Shares of on-chip memory up to which contexts are filled, to see which is the quickest."""


@dataclass(frozen=True)
class DevicePlan:
    """needs: RAM and flash against the target's limits; estimate: see `mz.compiler.estimate`."""

    memory_plan: MemoryPlan
    packed: Packed
    schedule: Schedule
    needs: dict[str, Any]
    estimate: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The sections `memory_plan`, `schedule` and `estimate`, ready for JSON."""
        return {
            "memory_plan": self.memory_plan.to_dict() | self.needs,
            "schedule": self.schedule.to_dict(),
            "estimate": self.estimate,
        }


def plan_device(arch: HwArch, graph: Graph, params: Params, quantization: Quantization) -> DevicePlan:
    """Raises UserError, naming layers and ways out, for what the target does not take or has no room for.

    Where the target runs the C code, its memory plan is the one in that code, scratch included.
    """
    check_quantization(arch, graph, quantization)
    in_c = arch.execution == "sequential" and "c" in arch.emit
    memory_plan = arena_plan(graph, params, quantization) if in_c else plan_memory(graph, quantization)
    packed = pack(graph, params, quantization)
    needs = check_fits(arch, graph.name, memory_plan, len(packed.data))
    scheduled, estimated = fastest(arch, graph, quantization, packed.layer_bytes(), memory_plan.order)
    return DevicePlan(memory_plan, packed, scheduled, needs, estimated)


def fastest(
    arch: HwArch,
    graph: Graph,
    quantization: Quantization,
    constant_bytes: Mapping[str, int],
    order: Sequence[str],
) -> tuple[Schedule, dict[str, Any]]:
    """The schedule and its estimate. Where a network takes several contexts, smaller ones, each with all clusters to
    itself, may let an image through sooner than full ones: the quickest of FILLINGS is taken.
    """
    tried = []
    for filling in FILLINGS:
        plan = schedule(arch, graph, quantization, constant_bytes, order, filling)
        tried.append((plan, estimate(arch, graph, quantization, plan, constant_bytes)))
        if len(plan.contexts) == 1:
            break
    return min(tried, key=lambda one: one[1]["cycles"])

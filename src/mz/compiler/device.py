"""Everything that a network is on its target beside the files: checked against it, planned, scheduled, estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mz.compiler.estimate import estimate
from mz.compiler.hw_arch import check_quantization
from mz.compiler.limits import check_fits
from mz.compiler.memory_plan import MemoryPlan, plan_memory
from mz.compiler.packing import Packed, pack
from mz.compiler.schedule import Schedule, schedule
from mz.graph import Graph, Params, Quantization
from mz.zoo import HwArch


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
    """Raises UserError, naming layers and ways out, for what the target does not take or has no room for."""
    check_quantization(arch, graph, quantization)
    memory_plan = plan_memory(graph, quantization)
    packed = pack(graph, params, quantization)
    needs = check_fits(arch, graph.name, memory_plan, len(packed.data))
    held = packed.layer_bytes()
    scheduled = schedule(arch, graph, quantization, held, memory_plan.order)
    return DevicePlan(
        memory_plan, packed, scheduled, needs, estimate(arch, graph, quantization, scheduled, held)
    )

"""Whether a planned network fits the target's RAM and flash, and what it needs of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mz.archive.model import kernel_shape
from mz.compiler.memory_plan import MemoryPlan, plan_memory
from mz.compiler.summary import packed_bytes
from mz.errors import UserError
from mz.graph import Activation, Graph, Precision, Quantization, TensorQuant
from mz.zoo import HwArch

_FOLDED_BYTES = 20 << 10
"""Reciprocals, sigmoids and swishes over 16 bits take 11 to 19 KB (`mz.compiler.folding`)."""


def needs(arch: HwArch, plan: MemoryPlan, constant_bytes: int) -> dict[str, Any]:
    """Bytes of RAM (arena) and flash (constants) beside what the target leaves for them; None: no limit."""
    memory = arch.memory
    return {
        "ram_bytes": plan.arena_bytes,
        "ram_limit_bytes": memory.ram_bytes and memory.ram_bytes - memory.reserved_ram_bytes,
        "flash_bytes": constant_bytes,
        "flash_limit_bytes": memory.flash_bytes and memory.flash_bytes - memory.reserved_flash_bytes,
    }


def has_room(arch: HwArch, graph: Graph, precisions: Mapping[str, Precision]) -> bool:
    """Whether `check_room` has nothing against it, nor against tables over 16 bits as large as they mostly are."""
    tables = sum(
        isinstance(layer, Activation) and not layer.host and precisions[layer.inputs[0]].activation_bits > 8
        for layer in graph.layers
    )
    try:
        check_room(arch, graph, precisions, tables * _FOLDED_BYTES)
    except UserError:
        return False
    return True


def check_room(arch: HwArch, graph: Graph, precisions: Mapping[str, Precision], table_bytes: int = 0) -> None:
    """Raises UserError as `check_fits` does, before there are any integers: of constants, only weights are counted.

    precisions: of every accelerator layer by name. table_bytes: to be counted besides.
    """
    if arch.memory.ram_bytes is None and arch.memory.flash_bytes is None:
        return
    bits = {name: TensorQuant(np.float32(1), 0, one.activation_bits) for name, one in precisions.items()}
    weights = sum(
        packed_bytes(math.prod(kernel_shape(graph, layer)), precisions[layer.name].weight_bits)
        for layer in graph.weighted
    )
    check_fits(arch, graph.name, plan_memory(graph, Quantization(bits)), weights + table_bytes)


def check_fits(arch: HwArch, network: str, plan: MemoryPlan, constant_bytes: int) -> dict[str, Any]:
    """The `needs`. Raises UserError with the figures and ways out where RAM or flash does not do."""
    found = needs(arch, plan, constant_bytes)
    faults = []
    if found["ram_limit_bytes"] is not None and found["ram_bytes"] > found["ram_limit_bytes"]:
        step = plan.peak_step()
        faults.append(
            f"its activations need {found['ram_bytes']:,} bytes of RAM (most at layer {plan.order[step]}) and "
            f"{found['ram_limit_bytes']:,} are left of {arch.memory.ram_bytes:,}: give it a smaller input"
        )
    if found["flash_limit_bytes"] is not None and found["flash_bytes"] > found["flash_limit_bytes"]:
        faults.append(
            f"its constants need {found['flash_bytes']:,} bytes of flash and {found['flash_limit_bytes']:,} are left "
            f"of {arch.memory.flash_bytes:,}: store weights in 4 bits (--compression-level)"
        )
    if faults:
        raise UserError(
            f"{network}: too large for hw_arch {arch.name}: {'; '.join(faults)}; or take a smaller network or another "
            "--hw-arch"
        )
    return found

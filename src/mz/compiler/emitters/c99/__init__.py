"""The quantized network as portable C99 with the emulator's exact integers: one folder that any C compiler builds."""

from __future__ import annotations

from mz.compiler.emitters.c99.lowering import LOWERINGS
from mz.compiler.emitters.c99.project import arena_plan, emit

__all__ = ["LOWERINGS", "arena_plan", "emit"]

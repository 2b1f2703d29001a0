"""Work on parts that know nothing of each other, on all processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(function: Callable[[Part], Result], parts: Iterable[Part], threads: int = 0) -> list[Result]:
    """`function` of each part, in order; numpy lets go of the interpreter while it computes.

    threads: parts at a time; 0 takes as many as there are processors.

    An error is raised as by the first part that has one. Whoever multiplies matrices in `function` keeps BLAS to one
    thread, or the two get in each other's way.
    """
    parts = list(parts)
    if threads == 1 or len(parts) < 2:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(threads or processors(), thread_name_prefix="mz-parts") as pool:
        return list(pool.map(function, parts))

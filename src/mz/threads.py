"""Work on parts that know nothing of each other, on all processors."""

from __future__ import annotations

import functools
import os
import threading
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

    threads: parts at a time; 0 takes as many as there are processors, and one within a part of such a call, whose other
    parts keep the processors busy.

    An error is raised as by the first part that has one. Whoever multiplies matrices in `function` keeps BLAS to one
    thread, or the two get in each other's way.
    """
    parts = list(parts)
    if threads == 1 or len(parts) < 2 or (threads == 0 and _in_pool()):
        return [function(part) for part in parts]
    if threads == 0:
        return list(_pool().map(function, parts))
    with ThreadPoolExecutor(threads, thread_name_prefix="mz-threads") as pool:
        return list(pool.map(function, parts))


_POOLED = "mz-parts"


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Kept: starting threads took a fifth of the time of the small steps of which a walk has thousands."""
    return ThreadPoolExecutor(processors(), thread_name_prefix=_POOLED)


def _in_pool() -> bool:
    return threading.current_thread().name.startswith(_POOLED)

"""Work on parts that know nothing of each other, on all processors."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(function: Callable[[Part], Result], parts: Iterable[Part], threads: int = 0) -> list[Result]:
    """`function` of each part, in order; numpy lets go of the interpreter while it computes.

    threads: parts at a time, as far as there are processors; 0 takes as many as these.

    Whoever calls works too, so that a part may divide its own work in turn: it then waits for no thread that is busy.
    An error is raised as by the first part that has one; parts behind it may be left out. Whoever multiplies matrices
    in `function` keeps BLAS to one thread, or the two get in each other's way.
    """
    parts = list(parts)
    found: dict[int, Any] = {}
    errors: dict[int, BaseException] = {}
    left = iter(range(len(parts)))

    def work() -> None:
        for place in left:
            try:
                found[place] = function(parts[place])
            except BaseException as error:
                errors[place] = error
            if errors:
                break

    helpers = min(threads or processors(), len(parts)) - 1
    started = [_pool().submit(work) for _ in range(helpers)]
    work()
    for helper in started:
        if not helper.cancel():
            helper.result()
    if errors:
        raise errors[min(errors)]
    return [found[place] for place in range(len(parts))]


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Kept: starting threads took a fifth of the time of the small steps of which a walk has thousands."""
    return ThreadPoolExecutor(processors(), thread_name_prefix="mz-parts")

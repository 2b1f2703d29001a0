"""Memory that sessions leave behind when they go: the C library keeps it for the process unless it is told."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Returns freed memory to the system where the C library can be asked to (glibc). Runtimes take and free blocks of
    all sizes, and what lies between two that live stays with the process otherwise: hundreds of megabytes after a few.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):  # no C library by that way, or another one than glibc
        return None
    return found

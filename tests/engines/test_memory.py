"""Freed memory goes back to the system, and where that cannot be asked for nothing happens."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from mz.engines import memory


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(memory._malloc_trim() is None, reason="the C library is not glibc")
def test_what_lies_between_blocks_that_live_goes_back() -> None:
    blocks = [np.ones(15_000, np.float32) for _ in range(4000)]
    kept = blocks[::100]
    del blocks
    before = resident()
    memory.give_back()
    assert resident() < before - (100 << 20)
    assert len(kept) == 40


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._malloc_trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    memory.give_back()
    memory._malloc_trim.cache_clear()

"""How fetching tells of itself: the shapes of the functions that a caller may hand in, and those that do nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

Note = Callable[[str], Any]
"""Told one line at a time what happens; a line that is indented is a detail."""

Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], Any]]]
"""progress(label, total, unit) opens a bar; the function that it gives is told how many more are done."""


def no_note(text: str) -> None:
    """Says nothing."""


def no_progress(label: str, total: int | None, unit: str) -> AbstractContextManager[Callable[[int], Any]]:
    """Shows nothing."""
    return nullcontext(lambda count: None)

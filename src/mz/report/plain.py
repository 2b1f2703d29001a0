"""Data as every JSON reader takes it. Imports nothing heavy: the command line stands on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Data that every JSON reader takes: numpy values as numbers, paths as text, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy's, told without importing it
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def known(value: Any) -> Any:
    """Data without what is no figure: keys of None, of numbers that are not finite, and of lists that hold one."""
    if isinstance(value, Mapping):
        found = {key: known(item) for key, item in plain(value).items()}
        return {key: item for key, item in found.items() if item is not None}
    if isinstance(value, list):
        return None if any(item is None for item in value) else [known(item) for item in value]
    return value

"""mz: a command-line model zoo for integer accelerators."""

from __future__ import annotations

__version__ = "0.1.0"

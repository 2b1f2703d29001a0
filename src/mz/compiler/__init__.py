"""From integers to files that run: checks against the hw_arch, emitters, and the summary of what was made."""

from __future__ import annotations

from mz.compiler.summary import bit_operations, summarize

__all__ = ["bit_operations", "summarize"]

"""What is said about results: their statistics, and how sure they are."""

from __future__ import annotations

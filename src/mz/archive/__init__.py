"""The archive (HAR): everything that the stages made of one network, in one file that can be inspected and resumed.

Reads and writes the file, describes it and compares two. Imports `mz.graph` and `mz.errors` only; the layout of the
file is stated in docs/archive.md.
"""

from __future__ import annotations

from mz.archive.compare import Difference, diff
from mz.archive.container import extract, read, read_members, write
from mz.archive.describe import describe
from mz.archive.files import writing
from mz.archive.members import FORMAT_VERSION, members
from mz.archive.model import STATES, Archive

__all__ = [
    "FORMAT_VERSION",
    "STATES",
    "Archive",
    "Difference",
    "describe",
    "diff",
    "extract",
    "members",
    "read",
    "read_members",
    "write",
    "writing",
]

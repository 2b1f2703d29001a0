"""The one exception that a user is meant to read.

Everything that a user can mend (a wrong file, key, option or network) is raised as `UserError`; the command line prints
its message on one line and exits with 2. Any other exception is a defect of ours.
"""

from __future__ import annotations


class UserError(Exception):
    """A fault in what the user gave us. The message names the file, layer or option at fault, and the way out."""

"""Pickles read as data: a name in them is looked up in a short list of ours, and anything else is refused.

A pickle is a program that may call any function by name. Here the only functions that it can reach are stand-ins that
record their arguments, so that nothing of what a file says is ever executed.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from mz.errors import UserError

Allowed = Mapping[tuple[str, str], Any]
"""(module, name) as the pickle says it -> the object of ours that stands for it."""


def unpickle(
    file: BinaryIO,
    allowed: Allowed,
    where: str,
    *,
    persistent: Callable[[Any], Any] | None = None,
    encoding: str = "ASCII",
) -> Any:
    """The next pickle of an open file.

    where: names the file in errors. persistent: what stands for an object that is stored outside the pickle.
    Raises UserError for a pickle that is damaged or asks for a name that is not in `allowed`.
    """
    try:
        return _Unpickler(file, allowed, where, persistent, encoding).load()
    except UserError:
        raise
    # Damaged pickles end the unpickler in many ways, and none of them is a defect of ours.
    except (
        pickle.UnpicklingError,
        struct.error,
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{where}: not a pickle that can be read ({detail})") from error


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        file: BinaryIO,
        allowed: Allowed,
        where: str,
        persistent: Callable[[Any], Any] | None,
        encoding: str,
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._allowed = allowed
        self._where = where
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise UserError(
                f"{self._where}: the pickle asks for {module}.{name}, which is not data: refused"
            ) from None

    def persistent_load(self, key: Any) -> Any:
        if self._persistent is None:
            raise UserError(f"{self._where}: the pickle refers to objects outside it: refused")
        return self._persistent(key)

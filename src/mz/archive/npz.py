"""Named arrays as .npz bytes: the same arrays give the same bytes, and reading them never runs or allocates on trust.

An .npz is a zip of .npy members (numpy's NEP 1). It is written uncompressed with a fixed time, so that neither the
clock nor the version of zlib shows; `numpy.load` reads it.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping

import numpy as np

_TIME = (1980, 1, 1, 0, 0, 0)


def dumps(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays in the mapping's order, little-endian and C-contiguous. Raises ValueError for an object array."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as zipped:
        for name, array in arrays.items():
            member = io.BytesIO()
            portable = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
            np.lib.format.write_array(member, portable, version=(1, 0), allow_pickle=False)
            zipped.writestr(zipfile.ZipInfo(f"{name}.npy", _TIME), member.getvalue())
    return buffer.getvalue()


def loads(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `dumps`, in the file's order. Raises ValueError, in one line, for anything else."""
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            for info in zipped.infolist():
                name = info.filename.removesuffix(".npy")
                # Stored only: then no header can ask for more memory than the file has bytes.
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                    raise ValueError(f"array {name} is compressed")
                if name in arrays:
                    raise ValueError(f"array {name} is there twice")
                arrays[name] = _array(name, zipped.read(info))
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"not an .npz file: {error}") from error
    return arrays


def _array(name: str, data: bytes) -> np.ndarray:
    member = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError("format version other than 1.0")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
    except (
        Exception
    ) as error:  # numpy evaluates the header as a literal: what that raises is not its contract
        raise ValueError(f"array {name} has a broken header: {error}") from error
    if dtype.hasobject:
        raise ValueError(f"array {name} holds pickled objects, which mz never loads")
    content = data[member.tell() :]
    if math.prod(shape) * dtype.itemsize != len(content) or any(side < 0 for side in shape):
        raise ValueError(f"array {name} says {dtype} {list(shape)} and holds {len(content)} bytes")
    array = np.frombuffer(content, dtype) if content else np.empty(math.prod(shape), dtype)
    return array.copy().reshape(shape, order="F" if fortran_order else "C")

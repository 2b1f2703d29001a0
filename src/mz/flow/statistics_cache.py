"""Statistics of calibration passes, kept from run to run: another recipe for the same network and images finds them.

A file is named by the content of all that the pass depends on, so that nothing ever goes out of date: another network,
image, preprocessing, batch size, runtime or processor is another file. The folder stays within 256 MB; the files that
were not used for the longest time go first.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

import mz
from mz.archive import writing
from mz.archive.npz import dumps, loads
from mz.graph import Graph, Params, Quantization
from mz.quantize import Statistics, fingerprint
from mz.quantize.stored_statistics import FORMAT, from_arrays, to_arrays
from mz.zoo.cache import cache_root, make_folder

MOST_BYTES = 256_000_000


def statistics_path(graph: Graph, params: Params, pass_settings: Mapping[str, object]) -> Path:
    """Where the statistics of a float network lie, once they are there. pass_settings: what the pass depends on beside
    the network: images, and how they are made and fed.
    """
    import onnxruntime

    settings = {
        "format": FORMAT,
        "mz": mz.__version__,
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "numpy": np.__version__,
        "processor": _processor(),
        "processors": os.cpu_count(),
        **pass_settings,
    }
    return _folder() / f"{fingerprint(graph, params, Quantization(), [], settings)}.npz"


def load(path: Path, images: Mapping[str, np.ndarray]) -> Statistics | None:
    """The statistics in a file; None where it is not there, is damaged, or was made beside other `images`: a few of the
    set, as the network takes them, which prove that preprocessing is still the same.
    """
    try:
        arrays = loads(path.read_bytes())
        if bytes(arrays["images"]) != _digest(images):
            return None
        statistics = from_arrays(arrays)
        os.utime(path)
    except (OSError, ValueError, KeyError):
        return None
    return statistics


def save(path: Path, statistics: Statistics, images: Mapping[str, np.ndarray]) -> None:
    """Keeps statistics for `load`. Raises UserError where the folder cannot be written."""
    make_folder(path.parent)
    arrays = {"images": np.frombuffer(_digest(images), np.uint8)} | to_arrays(statistics)
    with writing(path) as file:
        file.write(dumps(arrays))
    _make_room(path)


def _folder() -> Path:
    return cache_root() / "statistics"


def _make_room(kept: Path) -> None:
    """Removes what was used least lately until the folder is within its bound. Others may be at it at the same time."""
    found = []
    for path in kept.parent.glob("*.npz"):
        with suppress(OSError):
            about = path.stat()
            found.append((path != kept, -about.st_mtime_ns, about.st_size, path))
    total = 0
    for _, _, size, path in sorted(found):
        total += size
        if total > MOST_BYTES and path != kept:
            with suppress(OSError):
                path.unlink()


def _digest(images: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for name, values in images.items():
        digest.update(f"{name}{values.dtype}{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.digest()


def _processor() -> str:
    """Its model as far as the system tells: another one may add in another order."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"

"""What a long algorithm has reached, on disk: a killed run goes on where it was and ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mz.archive import writing
from mz.archive.npz import dumps, loads
from mz.graph import Graph, Params, Quantization

Arrays = dict[str, np.ndarray]


class Checkpoint:
    """One file, replaced as a whole. path: None keeps nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def save(self, arrays: Mapping[str, np.ndarray]) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with writing(self.path) as file:
                file.write(dumps(arrays))

    def load(self) -> Arrays | None:
        """What was saved last; None without it, or where the file is damaged."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            return loads(self.path.read_bytes())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def fingerprint(
    graph: Graph,
    params: Params,
    quantization: Quantization,
    images: Sequence[np.ndarray],
    settings: Mapping[str, Any],
) -> str:
    """Hex of all that a run's result depends on: another network, image or setting never finds its checkpoint."""
    digest = hashlib.sha256()

    def take(value: Any) -> None:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode())

    take([graph.to_dict(), dict(settings)])
    for name, arrays in sorted(params.items()):
        for key, array in sorted(arrays.items()):
            take([name, key, list(array.shape), str(array.dtype)])
            digest.update(np.ascontiguousarray(array).tobytes())
    for name, tensor in sorted(quantization.tensors.items()):
        take([name, float(tensor.scale), tensor.zero_point, tensor.bits])
    for name, weight in sorted(quantization.weights.items()):
        take([name, weight.bits])
        for array in (weight.kernel, weight.scale, weight.bias):
            digest.update(np.ascontiguousarray(array).tobytes())
    for array in images:
        take(list(array.shape))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

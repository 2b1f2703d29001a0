"""Writes what every layer of a network put out, batch by batch, for tools that look at numbers.

The folder holds `layers.json`, the accelerator's layers in order with shape, scale, zero point and bits, and a file
`<first image>.npz` for each batch: one array [N, *shape] a layer, under the layer's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mz.archive import Archive, writing
from mz.data import BatchInfo
from mz.errors import UserError


class LayerDump:
    """integers: the quantized network's, with what they stand for; else the float network's tensors as parsed."""

    def __init__(self, folder: Path, archive: Archive, integers: bool) -> None:
        """Raises UserError where the folder cannot be made or holds an earlier dump."""
        graph = archive.working_graph if integers else archive.graph
        quantization = archive.quantization if integers else None
        self.layers = tuple(layer.name for layer in graph.layers if not layer.host)
        self._folder = folder
        self._types: dict[str, type] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
        if next(folder.glob("*.npz"), None) is not None:
            raise UserError(f"{folder}: holds a dump already: remove it or name another folder")
        rows: list[dict[str, Any]] = []
        for name in self.layers:
            rows.append({"layer": name, "kind": graph[name].kind, "shape": list(graph[name].shape)})
            if quantization is not None:
                q = quantization.tensors[name]
                self._types[name] = q.carrier
                rows[-1] |= {"scale": float(q.scale), "zero_point": q.zero_point, "bits": q.bits}
        with writing(folder / "layers.json") as file:
            file.write((json.dumps(rows, indent=1) + "\n").encode())

    def add(self, tensors: Mapping[str, np.ndarray], about: BatchInfo) -> None:
        """One batch; `tensors` holds at least `layers`."""
        with writing(self._folder / f"{int(about.indices[0]):06d}.npz") as file:
            arrays: dict[str, np.ndarray] = {
                name: tensors[name].astype(self._types.get(name, np.float32), copy=False)
                for name in self.layers
            }
            np.savez(file, **arrays)  # type: ignore[arg-type]

"""Zero differing integers: whole networks, another engine against the numpy emulator, image by image.

    python benchmarks/equality.py ARCHIVE.har ... [--data DATA] [--images 256] [--mixed NAME ...]
                                   [--engine onnxruntime|native] [--json FILE]

An archive's own quantization is run, and for the networks named by --mixed three more: recipes that mix 16-bit
activations and 4-bit weights over the layers. DATA holds a folder for each data set, as benchmarks/zoo.py says;
networks without an entry there bring their own. A data set with fewer images is gone through again, every image
mirrored and with noise. Ends with exit code 1 where an integer differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mz import archive as har
from mz import data, tasks
from mz.archive import Archive
from mz.compiler.emitters import c99
from mz.emulator import NumpySession
from mz.engines.compare import Comparison
from mz.engines.float_ort import FloatSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.engines.native import open_native
from mz.flow.candidate import IntegerSession
from mz.flow.networks import configuration, only_input
from mz.flow.options import ModelRef
from mz.graph import Graph, Params, Precision, Quantization, Weighted
from mz.optimize import device_input
from mz.quantize import Recipe, collect, image_bytes, quantize
from zoo import DATA_OF

BATCH = 8
MIXED = {
    "a16 in every second layer": (Precision(16, 8), Precision(8, 8)),
    "w4 in every second layer": (Precision(8, 4), Precision(8, 8)),
    "a16_w4, a8_w8, a8_w4, a16_w16 in turn": (
        Precision(16, 4),
        Precision(8, 8),
        Precision(8, 4),
        Precision(16, 16),
    ),
}


def images(archive: Archive, folder: Path | None, count: int) -> Iterator[np.ndarray]:
    """Batches of `count` images as the network in the archive takes them."""
    config = configuration(archive, ModelRef())
    preprocess = tasks.load(config).preprocess_batch
    name, _ = DATA_OF.get(archive.name, (None, 0))
    dataset = data.open_evaluation(config, folder / name if folder and name else None)
    rng, given = np.random.default_rng(0), 0
    while given < count:
        later = given >= len(dataset)
        for batch, _ in data.batches(dataset, preprocess, BATCH):
            x = batch[: count - given]
            if later:
                x = x[..., ::-1] + rng.normal(0, 0.05 * float(x.std()), x.shape)
            yield device_input(archive.input_form, np.ascontiguousarray(x, np.float32))
            given += len(x)
            if given >= count:
                return


def open_native_code(graph: Graph, params: Params, quantization: Quantization) -> IntegerSession:
    """The C target's code of a network."""
    return open_native(c99.emit(graph.name, graph, params, quantization), graph.name)


ENGINES: dict[str, Callable[[Graph, Params, Quantization], IntegerSession]] = {
    "onnxruntime": IntegerOrtSession,
    "native": open_native_code,
}


def compare(
    archive: Archive, quantization: Quantization, folder: Path | None, count: int, engine_name: str
) -> dict[str, Any]:
    """Runs both engines over the images and counts what differs at the accelerator's outputs."""
    graph, params = archive.working_graph, archive.working_params
    judge = NumpySession(graph, params, quantization)
    engine = ENGINES[engine_name](graph, params, quantization)
    comparison, began, feed = Comparison(), time.monotonic(), only_input(graph)
    for batch in images(archive, folder, count):
        comparison.update(judge.run({feed: batch}), engine.run({feed: batch}))
    return {
        "network": archive.name,
        "images": comparison.images,
        "integers": comparison.integers,
        "differing": comparison.differing,
        "seconds": round(time.monotonic() - began, 1),
    }


def mixed(archive: Archive, precisions: tuple[Precision, ...], folder: Path | None) -> Quantization:
    """The network quantized anew, its weighted layers in these precisions in turn."""
    graph, params, feed = archive.working_graph, archive.working_params, only_input(archive.working_graph)
    inside = [layer.name for layer in graph.layers if not layer.host]
    batches = ({feed: batch} for batch in images(archive, folder, 16))
    statistics = collect(FloatSession(graph, params, taps=inside), batches, image_bytes(graph))
    names = [layer.name for layer in graph.layers if isinstance(layer, Weighted) and not layer.host]
    chosen = {name: precisions[index % len(precisions)] for index, name in enumerate(names)}
    return quantize(graph, params, statistics, Recipe(layer_precisions=chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--mixed", nargs="*", default=[])
    parser.add_argument("--engine", choices=ENGINES, default="onnxruntime")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def note(recipe: str, row: dict[str, Any]) -> None:
        rows.append({"recipe": recipe} | row)
        print(
            f"| {row['network']} | {recipe} | {row['images']} | {row['integers']:,} | {row['differing']} |",
            flush=True,
        )

    for path in options.archives:
        archive = har.read(path)
        assert archive.quantization is not None, f"{path}: not quantized"
        note(
            "as optimized",
            compare(archive, archive.quantization, options.data, options.images, options.engine),
        )
        if archive.name in options.mixed:
            for recipe, precisions in MIXED.items():
                quantization = mixed(archive, precisions, options.data)
                note(recipe, compare(archive, quantization, options.data, options.images, options.engine))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if any(row["differing"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

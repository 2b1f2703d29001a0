"""A quantized network through the compiler."""

from __future__ import annotations

from pathlib import Path

from mz import archive as har
from mz import flow
from mz.flow import ModelRef


def exact_forms(archive: har.Archive, images: Path, folder: Path) -> set[str]:
    """Of ONNX and C, compiled into the folder, those whose integers on the images are all the emulator's."""
    path = folder / "network.har"
    har.write(archive, path)
    compiled = flow.compile_model(
        ModelRef(har=path), out=folder / "out", verify=True, data_path=images, emit=("onnx", "c")
    )
    assert compiled.verify is not None
    return {form for form, found in compiled.verify["forms"].items() if found["exact"]}

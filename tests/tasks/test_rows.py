"""The accuracy that the networks' own code gives, on the folder of real networks and data."""

from __future__ import annotations

from pathlib import Path

import pytest

from mz import flow
from mz.flow.options import EvalOptions, ModelRef

ROWS = [
    ("yunet_n_320", "yunet_n_320.onnx", "coco_faces", {"ap": 94.1}),
    ("ultraface_rfb_320", "ultraface_rfb_320x240.onnx", "coco_faces", {"ap": 94.8}),
    ("fastestdet_352", "fastestdet_352.onnx", "coco128_val", {"map": 19.07, "ap50": 35.67}),
    ("espnet_camvid", "espnet_camvid_360x480_bn.onnx", "camvid", {"miou": 59.84}),
    ("ppocr_mobile_v2_cls", "ppocr_mobile_v2.0_cls_48x192.onnx", "ocr_lines", {"accuracy": 99.0}),
    ("ppocrv4_rec", "ppocrv4_rec_48x320.onnx", "ocr_lines", {"exact": 78.8, "exact_without_spaces": 99.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "file", "folder", "wanted"), ROWS)
def test_float_accuracy(mirror: Path, name: str, file: str, folder: str, wanted: dict[str, float]) -> None:
    ref = ModelRef(model=name, ckpt=mirror / "models" / file)
    result = flow.evaluate(ref, EvalOptions(data_path=mirror / "data" / folder))
    assert {key: result.metrics[key] for key in wanted} == pytest.approx(wanted, abs=0.06)

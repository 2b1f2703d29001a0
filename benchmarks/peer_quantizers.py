"""One function for each quantizer: a bench and a folder to write to -> what runs the quantized network.

The peers belong to no extra and no test: each is imported where it is called.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mz.engines.float_ort import HostSession
from mz.engines.integer_ort import IntegerOrtSession
from mz.flow.optimize import optimize_archive
from mz.flow.options import OptimizeOptions, OptimizeResult
from mz.optimize import device_input
from mz.script import ScriptSettings
from peer_bench import Bench, Runner

Maker = Callable[[Bench, Path], Runner]


def float_network(bench: Bench, scratch: Path) -> Runner:
    return bench.run_file(bench.float_file)


def mz_level(level: int) -> Maker:
    def make(bench: Bench, scratch: Path) -> Runner:
        return optimized(bench, ScriptSettings(), OptimizeOptions(optimization_level=level))[0]

    return make


def optimized(
    bench: Bench, settings: ScriptSettings, options: OptimizeOptions
) -> tuple[Runner, OptimizeResult]:
    """What `mz optimize` makes of the network on the bench's calibration images."""
    result = optimize_archive(bench.archive, bench.config, settings, options, bench.calibration)
    found = result.archive
    assert found.quantization is not None, result.steps
    graph, params, tensors = found.working_graph, found.working_params, found.quantization.tensors
    engine, host = IntegerOrtSession(graph, params, found.quantization), HostSession(graph, params)
    wanted = graph.accelerator_outputs()

    def run(images: np.ndarray) -> list[np.ndarray]:
        integers = engine.run({bench.feed: device_input(found.input_form, images)})
        restored = host.run({name: tensors[name].dequantize(integers[name]) for name in wanted})
        return [restored[name] for name in graph.outputs]

    return run, result


def onnxruntime_static(method: str, activations: str, weights: str, per_channel: bool) -> Maker:
    """`quantize_static`. activations, weights: QInt8 or QUInt8."""

    def make(bench: Bench, scratch: Path) -> Runner:
        from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

        quantize_static(
            bench.float_file,
            scratch / "static.onnx",
            _reader(bench),
            per_channel=per_channel,
            activation_type=QuantType[activations],
            weight_type=QuantType[weights],
            calibrate_method=CalibrationMethod[method],
            # Its histograms otherwise wait until the activations of all images are in memory.
            extra_options={} if method == "MinMax" else {"CalibStridedMinMax": _divisor(bench, 25)},
        )
        return bench.run_file(scratch / "static.onnx")

    return make


def _reader(bench: Bench) -> Any:
    """The calibration images one by one, as onnxruntime and Quark ask for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rewind()

        def __len__(self) -> int:
            return len(bench.calibration)

        def rewind(self) -> None:
            self.images, self.left = bench.images(1), len(self)

        def reset_iter(self) -> None:
            self.rewind()

        def set_range(self, start_index: int, end_index: int) -> None:
            """The next images up to `end_index`: ranges are asked for in order."""
            self.left = end_index - start_index

        def get_next(self) -> Mapping[str, np.ndarray] | None:
            images = next(self.images, None) if self.left > 0 else None
            self.left -= 1
            return None if images is None else {bench.feed: images}

    return Reader()


def _divisor(bench: Bench, most: int) -> int:
    """The largest number up to `most` that divides the number of calibration images."""
    return next(size for size in range(most, 0, -1) if len(bench.calibration) % size == 0)


def nncf_quantize(fast: bool) -> Maker:
    def make(bench: Bench, scratch: Path) -> Runner:
        import nncf

        images = [{bench.feed: one} for one in bench.images(1)]
        quantized = nncf.quantize(
            onnx.load(bench.float_file),
            nncf.Dataset(images),
            subset_size=len(images),
            fast_bias_correction=fast,
        )
        onnx.save(quantized, scratch / "nncf.onnx")
        return bench.run_file(scratch / "nncf.onnx")

    return make


def aimet(equalize: bool = False, adaround: int = 0, original: bool = False) -> Maker:
    """AIMET's simulation with its defaults: int8, weights a channel, min/max.

    adaround: iterations a layer. original: begin with the file that the network was parsed from, with whose batch
    normalizations equalization can also move biases.
    """

    def make(bench: Bench, scratch: Path) -> Runner:
        from aimet_onnx import QuantizationSimModel, apply_adaround
        from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
        from aimet_onnx.cross_layer_equalization import equalize_model

        model = _clips_with_constants(onnx.load(bench.original if original else bench.float_file))
        feed = model.graph.input[0].name
        (equalize_model if equalize else fold_all_batch_norms_to_weight)(model)
        simulation = QuantizationSimModel(model)
        images = [{feed: one} for one in bench.images(1)]
        if adaround:
            apply_adaround(simulation, images, num_iterations=adaround)
        simulation.compute_encodings(images)

        def run(images: np.ndarray) -> list[np.ndarray]:
            # One image at a time, as the batch axis of an original may be fixed.
            found = [simulation.session.run(None, {feed: one[None]}) for one in images]
            return [np.concatenate(parts) for parts in zip(*found, strict=True)]

        return run

    return make


def _clips_with_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The bounds of every Clip as Constant nodes, the only form in which AIMET's equalization sees a ReLU6."""
    graph = model.graph
    bounds = {name for node in graph.node if node.op_type == "Clip" for name in node.input[1:]}
    for tensor in [one for one in graph.initializer if one.name in bounds]:
        graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], tensor.name, value=tensor))
        graph.initializer.remove(tensor)
    return model


def quark(preset: str, per_channel: bool = False, **algorithms: Mapping[str, Any]) -> Maker:
    """preset: one of Quark's named configurations. algorithms: names of its algorithm classes with their settings."""

    def make(bench: Bench, scratch: Path) -> Runner:
        import quark.onnx
        from quark.onnx.quantization.config.spec import QuantGranularity

        config = copy.deepcopy(getattr(quark.onnx, preset))
        if per_channel:
            config.global_config.weight.set_quant_granularity(QuantGranularity.Channel)
        # Equalization passes through ReLU, and takes ReLU6 for one only where this says so.
        config.extra_options["extra_options"]["ReplaceClip6Relu"] = "CLEConfig" in algorithms
        config.algo_config = [getattr(quark.onnx, name)(**how) for name, how in algorithms.items()]
        quantized = scratch / "quark.onnx"
        with contextlib.chdir(scratch):  # where it leaves tables of its own
            quark.onnx.ModelQuantizer(config).quantize_model(
                str(bench.float_file), str(quantized), _reader(bench)
            )
        return bench.run_file(quantized)

    return make


QUARK_ADAROUND = {"learning_rate": 0.1, "num_iterations": 1000}
"""Those of its own configurations named `..._ADAROUND_QCONFIG`."""

PEERS: dict[str, Maker] = {
    "float32": float_network,
    "mz level 0": mz_level(0),
    "mz level 1": mz_level(1),
    "onnxruntime, default": onnxruntime_static("MinMax", "QInt8", "QInt8", False),
    "onnxruntime, uint8 a layer, MinMax": onnxruntime_static("MinMax", "QUInt8", "QUInt8", False),
    "onnxruntime, uint8 a channel, MinMax": onnxruntime_static("MinMax", "QUInt8", "QUInt8", True),
    "onnxruntime, uint8 a channel, Entropy": onnxruntime_static("Entropy", "QUInt8", "QUInt8", True),
    "onnxruntime, uint8 a channel, Percentile": onnxruntime_static("Percentile", "QUInt8", "QUInt8", True),
    "onnxruntime, uint8 x int8 a channel, MinMax": onnxruntime_static("MinMax", "QUInt8", "QInt8", True),
    "NNCF, fast bias correction": nncf_quantize(fast=True),
    "NNCF, accurate bias correction": nncf_quantize(fast=False),
    "AIMET, default": aimet(),
    "AIMET, equalized": aimet(equalize=True),
    "AIMET, equalized, batch normalization kept": aimet(equalize=True, original=True),
    "AIMET, AdaRound": aimet(adaround=10_000),
    "Quark XINT8": quark("XINT8_QCONFIG"),
    "Quark XINT8, CLE": quark("XINT8_QCONFIG", CLEConfig={}),
    "Quark A8W8": quark("A8W8_QCONFIG"),
    "Quark A8W8, CLE": quark("A8W8_QCONFIG", CLEConfig={}),
    "Quark A8W8 a channel": quark("A8W8_QCONFIG", per_channel=True),
    "Quark A8W8 a channel, CLE": quark("A8W8_QCONFIG", per_channel=True, CLEConfig={}),
    "Quark A8W8 a channel, AdaRound": quark("A8W8_QCONFIG", per_channel=True, AdaRoundConfig=QUARK_ADAROUND),
    "Quark XINT8, CLE, AdaRound": quark("XINT8_QCONFIG", CLEConfig={}, AdaRoundConfig=QUARK_ADAROUND),
}
"""Rows by name. AdaRound's settings are each package's recommended ones."""

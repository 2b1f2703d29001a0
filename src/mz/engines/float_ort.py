"""Runs a graph in float32 with onnxruntime: the whole of it, or the host's part after the accelerator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mz.engines.exact_means import with_exact_means
from mz.engines.lower_float import float_model, host_model
from mz.graph import Graph, Input, Params

if TYPE_CHECKING:
    import onnx
    import onnxruntime


_ALIGNMENT = 16
"""In float32: 64 bytes."""

_MOST_KEPT = 64 << 20
"""In float32: 256 MiB, more than tensors of several images may take. One image may take gigabytes."""

_LOSES_OUTPUTS = ["ConvAddActivationFusion"]
"""onnxruntime 1.32 puts a convolution and the sum behind it into one node even where the convolution is an output, and
then cannot find that output."""


def open_session(model: onnx.ModelProto, threads: int = 0) -> onnxruntime.InferenceSession:
    """An onnxruntime session, on CUDA where this onnxruntime has it. threads: 0 leaves the number to the runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Between runs its threads would else spin for tens of milliseconds, in the way of whoever computes then.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    available = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=providers, disabled_optimizers=_LOSES_OUTPUTS
    )


class FloatSession:
    """The graph in full precision.

    taps: layers whose tensors are wanted beside the outputs.
    """

    def __init__(self, graph: Graph, params: Params, taps: Sequence[str] = (), threads: int = 0) -> None:
        self._wanted = list(dict.fromkeys([*graph.outputs, *taps]))
        self._computed = [name for name in self._wanted if not isinstance(graph[name], Input)]
        self._session = None
        if self._computed:
            model = float_model(graph, params, self._computed)
            with_exact_means(model, rank=4)
            self._session = open_session(model, threads)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Float32 arrays [N, *shape] by input layer -> the graph's outputs, then the taps, each once."""
        found = dict(feeds)
        if self._session is not None:
            found |= dict(zip(self._computed, self._session.run(self._computed, dict(feeds)), strict=True))
        return {name: found[name] for name in self._wanted}


class TappedSession(FloatSession):
    """The float network with accelerator tensors tapped (none named: all), for one pass over many images.

    What a run returns holds until the next run of any of them, which writes into the same memory, kept for all of them:
    fresh hundreds of megabytes a run or a session, and the copy out of the runtime's own, took a quarter of the time.
    """

    _memory = np.empty(0, np.float32)

    def __init__(self, graph: Graph, params: Params, taps: Sequence[str] = ()) -> None:
        super().__init__(graph, params, taps or [layer.name for layer in graph.layers if not layer.host])
        self._shapes = {name: graph[name].shape for name in self._computed if not graph[name].host}

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As `FloatSession.run`."""
        found = dict(feeds)
        if self._session is not None:
            found |= self._places(len(next(iter(feeds.values()))))
            binding = self._session.io_binding()
            for entry in self._session.get_inputs():
                binding.bind_cpu_input(entry.name, np.ascontiguousarray(feeds[entry.name]))
            for name in self._computed:
                if name in self._shapes:
                    x = found[name]
                    binding.bind_output(name, "cpu", 0, np.float32, x.shape, x.ctypes.data)
                else:
                    binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding)
            for name, value in zip(self._computed, binding.get_outputs(), strict=True):
                if name not in self._shapes:
                    found[name] = value.numpy()
        return {name: found[name] for name in self._wanted}

    def _places(self, images: int) -> dict[str, np.ndarray]:
        """Where the tensors of so many images go: all in one block, which goes back to the system as a whole."""
        sizes = [images * math.prod(shape) for shape in self._shapes.values()]
        starts = np.cumsum([0] + [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes])
        if len(self._memory) < starts[-1]:
            keeper = TappedSession if starts[-1] <= _MOST_KEPT else self
            keeper._memory = np.empty(starts[-1], np.float32)
        return {
            name: self._memory[start : start + size].reshape(images, *shape)
            for (name, shape), start, size in zip(self._shapes.items(), starts.tolist(), sizes, strict=False)
        }


class HostSession:
    """The layers that run in float on the host, after dequantization."""

    def __init__(self, graph: Graph, params: Params, threads: int = 0) -> None:
        self._outputs = graph.outputs
        self._computed = [name for name in graph.outputs if graph[name].host]
        model = host_model(graph, params)
        self._session = open_session(model, threads) if model and self._computed else None
        self._inputs = [entry.name for entry in self._session.get_inputs()] if self._session else []

    def run(self, accelerator_outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Dequantized tensors [N, *shape] by layer, as `graph.accelerator_outputs` names them -> all graph outputs."""
        found = dict(accelerator_outputs)
        if self._session is not None:
            feeds = {name: found[name] for name in self._inputs}
            found |= dict(zip(self._computed, self._session.run(self._computed, feeds), strict=True))
        return {name: found[name] for name in self._outputs}

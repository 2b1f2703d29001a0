"""Runs a compiled ONNX file, integer or QDQ, as it is or with the tensors of its layers brought to the outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from mz.engines.lower_integer import tensor_names
from mz.engines.self_test import CPU, open_integer_session
from mz.errors import UserError
from mz.graph import Graph, Params, Pixels, Quantization

if TYPE_CHECKING:
    import onnx


class ArtefactSession:
    """An ONNX file that `mz compile` wrote; the same interface as the engines.

    taps: layers whose integers are wanted beside the outputs. Those that the file has under the name that mz gives them
    are found; watched tensors keep onnxruntime from fusing across them.
    """

    name = "artefact"

    def __init__(
        self,
        model: onnx.ModelProto,
        graph: Graph,
        params: Params,
        quantization: Quantization,
        taps: Iterable[str] = (),
        threads: int = 0,
        pixels: Pixels | None = None,
    ) -> None:
        """pixels: where the network takes pixels and the file images, which are made of them first.

        Raises UserError where the file lacks an output of the network, or onnxruntime refuses it.
        """
        import onnx

        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        held = {output for node in model.graph.node for output in node.output}
        names = tensor_names(graph, params, quantization)
        self._tensors: dict[str, str] = {}
        self._pixels = pixels
        given = {output.name for output in model.graph.output}
        for layer in graph.accelerator_outputs():
            output = layer if layer in given else f"{layer}_integers"
            if output not in given:
                raise UserError(f"{model.graph.name}: the compiled file has no output {layer}")
            self._tensors[layer] = output
        for layer in taps:
            if layer not in self._tensors and names.get(layer) in held:
                self._tensors[layer] = names[layer]
                watched.graph.output.append(onnx.ValueInfoProto(name=names[layer]))
        try:
            self._session = open_integer_session(watched, [CPU], threads)
        except Exception as error:  # onnxruntime raises a family of its own, without a common base
            reason = (str(error).splitlines() or ["no reason given"])[0]
            raise UserError(
                f"{model.graph.name}: onnxruntime refuses the compiled file ({reason})"
            ) from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs, float32 [N, *shape] by Input layer -> integers of accelerator outputs and of the taps found."""
        fed = self._pixels.normalized(feeds) if self._pixels else dict(feeds)
        found = self._session.run(list(self._tensors.values()), fed)
        return dict(zip(self._tensors, found, strict=True))


class QdqSession:
    """A QDQ file that `mz compile` wrote, run by onnxruntime in its own way, but for kernels that would saturate on
    this processor. layers: whose tensors are wanted. pixels: as `ArtefactSession` has them.
    """

    name = "qdq"

    def __init__(self, content: bytes, layers: Iterable[str], pixels: Pixels | None = None) -> None:
        import onnx

        self._pixels = pixels
        model = onnx.load_from_string(content)
        inputs = {entry.name for entry in model.graph.input}
        self._tensors = {name: f"{name}/dequantized" if name in inputs else name for name in layers}
        given = {entry.name for entry in model.graph.output}
        for tensor in self._tensors.values():
            if tensor not in given:
                model.graph.output.append(onnx.ValueInfoProto(name=tensor))
        self._session = open_integer_session(model, [CPU], precise=True)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs, float32 [N, *shape] by Input layer -> dequantized tensors, float32, by layer."""
        fed = self._pixels.normalized(feeds) if self._pixels else dict(feeds)
        found = self._session.run(list(self._tensors.values()), fed)
        return dict(zip(self._tensors, found, strict=True))

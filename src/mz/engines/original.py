"""Runs the user's own ONNX, untouched or cut at nodes: the baseline that everything else is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mz.engines.exact_means import with_exact_means
from mz.engines.float_ort import open_session
from mz.errors import UserError
from mz.parser.onnx_file import cut_model

if TYPE_CHECKING:
    import onnx


class OriginalSession:
    """The network of an ONNX file, or a model cut from one (`mz.parser.cut_model`).

    taps: tensors wanted beside the outputs; name: what errors call the network.
    """

    def __init__(
        self, source: Path | onnx.ModelProto, threads: int = 0, taps: Sequence[str] = (), name: str = ""
    ) -> None:
        """Raises UserError where the file is unreadable or onnxruntime refuses it."""
        model = cut_model(source) if isinstance(source, Path) else source
        self._name = name or (str(source) if isinstance(source, Path) else model.graph.name)
        with_exact_means(model)
        given = {entry.name for entry in model.graph.output}
        model.graph.output.extend(
            _float_tensor(tensor) for tensor in dict.fromkeys(taps) if tensor not in given
        )
        try:
            self._session = open_session(model, threads)
        except Exception as error:  # onnxruntime raises a family of its own, without a common base
            raise self._refusal(error) from error
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        self._one_by_one = any(entry.shape[:1] == [1] for entry in self._session.get_inputs())

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Float32 arrays [N, ...] by ONNX input -> arrays by ONNX output.

        A network fixed to one image is fed one by one; its outputs are joined along their first axis where that has
        size 1, else stacked. Raises UserError where onnxruntime refuses.
        """
        batch = len(next(iter(feeds.values())))
        if not self._one_by_one or batch == 1:
            return self._run(feeds)
        parts = [self._run({name: array[i : i + 1] for name, array in feeds.items()}) for i in range(batch)]
        return {name: _joined([part[name] for part in parts]) for name in self._outputs}

    def _run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))
        except Exception as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> UserError:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        return UserError(f"{self._name}: onnxruntime cannot run this network ({reason}); export it again")


def _float_tensor(name: str) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One array for the batch out of one per image."""
    return np.concatenate(parts) if parts[0].shape[:1] == (1,) else np.stack(parts)

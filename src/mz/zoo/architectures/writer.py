"""An ONNX network laid layer by layer, with its weights taken by name from a checkpoint, each one exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mz.errors import UserError

_OPSET = 17
_IR_VERSION = 8
_NOT_FOR_INFERENCE = "num_batches_tracked"

Sides = tuple[int, int, int, int]
"""Top, left, bottom, right."""


class Network:
    """Tensors are named by the node that makes them; the batch axis is free ("N").

    Every method that adds a node takes the name of its input tensor and gives that of its output.
    """

    def __init__(self, name: str, weights: Mapping[str, np.ndarray], where: str) -> None:
        """weights: by the checkpoint's names. where: names the checkpoint in errors."""
        self._name = name
        self._where = where
        self._weights = {key: value for key, value in weights.items() if not key.endswith(_NOT_FOR_INFERENCE)}
        self._nodes: list[Any] = []
        self._initializers: dict[str, np.ndarray] = {}
        self._values: list[Any] = []
        self._output = ""

    def input(self, shape: tuple[int, ...]) -> str:
        """The network's input `input`, float32 [N, *shape]."""
        self._values.append(("input", shape))
        return "input"

    def conv(
        self, x: str, name: str, shape: tuple[int, int, int, int], stride: int = 1, pads: Sides = (0, 0, 0, 0)
    ) -> str:
        """A convolution without bias; shape: of its weight [O, I / group, H, W] (depthwise where I / group is 1)."""
        group = shape[0] if shape[1] == 1 else 1
        return self._add(
            "Conv",
            name,
            [x, self._take(f"{name}.weight", shape)],
            kernel_shape=list(shape[2:]),
            strides=[stride, stride],
            pads=list(pads),
            group=group,
        )

    def batch_norm(self, x: str, name: str, channels: int, epsilon: float) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        inputs = [x, *(self._take(f"{name}.{part}", (channels,)) for part in parts)]
        return self._add("BatchNormalization", name, inputs, epsilon=epsilon)

    def relu(self, x: str, name: str) -> str:
        return self._add("Relu", name, [x])

    def relu6(self, x: str, name: str) -> str:
        low, high = self._constant("zero", np.float32(0)), self._constant("six", np.float32(6))
        return self._add("Clip", name, [x, low, high])

    def add(self, x: str, y: str, name: str) -> str:
        return self._add("Add", name, [x, y])

    def every_second_pixel(self, x: str, name: str) -> str:
        """Rows and columns 0, 2, 4, ..."""
        ends = np.full(2, np.iinfo(np.int64).max, np.int64)
        inputs = [
            x,
            self._constant("slice.starts", np.zeros(2, np.int64)),
            self._constant("slice.ends", ends),
            self._constant("slice.axes", np.array([2, 3], np.int64)),
            self._constant("slice.steps", np.array([2, 2], np.int64)),
        ]
        return self._add("Slice", name, inputs)

    def pad_channels(self, x: str, name: str, before: int, after: int) -> str:
        """Channels of zeros before and after those of x."""
        pads = np.array([0, before, 0, 0, 0, after, 0, 0], np.int64)
        return self._add("Pad", name, [x, self._constant(f"{name}.pads", pads)], mode="constant")

    def global_average_pool(self, x: str, name: str) -> str:
        return self._add("Flatten", f"{name}.flatten", [self._add("GlobalAveragePool", name, [x])], axis=1)

    def dense(self, x: str, name: str, shape: tuple[int, int]) -> str:
        """shape: of its weight [outputs, inputs]; it has a bias."""
        inputs = [x, self._take(f"{name}.weight", shape), self._take(f"{name}.bias", shape[:1])]
        return self._add("Gemm", name, inputs, transB=1)

    def output(self, x: str, classes: int) -> None:
        """Ends the network; its output is called `logits`, float32 [N, classes]."""
        self._nodes[-1].output[0] = "logits"
        assert self._nodes[-1].name == x
        self._values.append(("logits", (classes,)))

    def finish(self) -> bytes:
        """The ONNX file. Raises UserError for weights of the checkpoint that the architecture has no place for."""
        import onnx
        from onnx import helper, numpy_helper

        if self._weights:
            names = ", ".join(list(self._weights)[:3])
            raise UserError(f"{self._where}: not a checkpoint of {self._name}: it has no place for {names}")
        source, target = (
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape])
            for name, shape in self._values
        )
        tensors = [numpy_helper.from_array(value, name) for name, value in self._initializers.items()]
        graph = helper.make_graph(self._nodes, self._name, [source], [target], tensors)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="mz",
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _add(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def _take(self, name: str, shape: tuple[int, ...]) -> str:
        value = self._weights.pop(name, None)
        if value is None:
            raise UserError(f"{self._where}: not a checkpoint of {self._name}: it has no {name}")
        if value.shape != shape or value.dtype.kind != "f":
            raise UserError(
                f"{self._where}: not a checkpoint of {self._name}: {name} is {value.dtype} {list(value.shape)}, "
                f"expected float32 {list(shape)}"
            )
        self._initializers[name] = value.astype(np.float32)
        return name

    def _constant(self, name: str, value: Any) -> str:
        self._initializers[name] = np.asarray(value)
        return name

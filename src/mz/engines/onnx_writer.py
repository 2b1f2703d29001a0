"""Writes ONNX graphs node by node: names tensors, stores constants once, and assembles the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

    from mz.graph import Pixels

OPSET = 17
"""Old enough for runtimes in the field, new enough for every operator that mz emits; all from the standard domain."""


class OnnxWriter:
    """Collects nodes and constants; every method returns the name of the tensor that it made."""

    def __init__(self, opset: int = OPSET, ir_version: int = 8) -> None:
        self.opset, self._ir_version = opset, ir_version
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []
        self._names: set[str] = set()

    def _unique(self, name: str) -> str:
        fresh, number = name, 2
        while fresh in self._names:
            fresh, number = f"{name}_{number}", number + 1
        self._names.add(fresh)
        return fresh

    def constant(self, value: np.ndarray | np.generic, name: str) -> str:
        """An initializer, shared with an equal one; `name` is a wish."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._unique(name)
            self._initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def typed_constant(self, value: np.ndarray, data_type: int, name: str) -> str:
        """An initializer of an ONNX type that numpy lacks (`onnx.TensorProto.INT4` and the like), from its values."""
        from onnx import helper

        unique = self._unique(name)
        self._initializers.append(
            helper.make_tensor(unique, data_type, value.shape, value.reshape(-1).tolist())
        )
        return unique

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """One node of the standard domain with a single output, which gets `name` or a name made from it."""
        from onnx import helper

        output = self._unique(name)
        self._nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def affine(self, x: str, factor: float, offset: float, name: str) -> str:
        """`factor x + offset` in float32, without what changes nothing."""
        if factor != 1:
            x = self.node("Mul", [x, self.constant(np.float32(factor), f"{name}_factor")], f"{name}_product")
        if offset != 0:
            x = self.node("Add", [x, self.constant(np.float32(offset), f"{name}_offset")], f"{name}_sum")
        return x

    def pixels(self, images: str, pixels: Pixels) -> str:
        """The pixels behind normalized images, not yet rounded."""
        mean, std = (
            self.constant(c, f"{images}_{what}")
            for c, what in zip(pixels.constants(), ("mean", "std"), strict=True)
        )
        return self.node(
            "Add", [self.node("Mul", [images, std], f"{images}_scaled"), mean], f"{images}_pixels"
        )

    def padded(self, x: str, pads: Sequence[int], values: np.ndarray, name: str) -> str:
        """`x` [N, C, H, W] with `values` [C] of its own type around its channels; pads: top, left, bottom, right."""
        top, left, bottom, right = pads
        ends = self.constant(np.asarray([0, 0, top, left, 0, 0, bottom, right], np.int64), f"{name}_pads")
        if (values == values[0]).all():
            return self.node("Pad", [x, ends, self.constant(values[0], f"{name}_value")], name)
        parts = []
        for channel, value in enumerate(values):
            bounds = (
                self.constant(np.array([end], np.int64), f"{name}_end") for end in (channel, channel + 1, 1)
            )
            part = self.node("Slice", [x, *bounds], f"{name}_channel")
            parts.append(
                self.node("Pad", [part, ends, self.constant(value, f"{name}_value")], f"{name}_part")
            )
        return self.node("Concat", parts, name, axis=1)

    def reserve(self, names: Iterable[str]) -> None:
        """Keeps these names for inputs and outputs."""
        self._names.update(names)

    def name_output(self, name: str) -> None:
        """Gives the newest node's output its final name."""
        self._nodes[-1].output[0] = self._nodes[-1].name = name

    def model(
        self,
        graph_name: str,
        inputs: Mapping[str, tuple[Any, tuple[int, ...]]],
        outputs: Mapping[str, tuple[Any, tuple[int, ...]]],
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The checked model; inputs and outputs give numpy dtype and shape without the batch axis, which is `N`."""
        from onnx import checker, helper

        def value_infos(values: Mapping[str, tuple[Any, tuple[int, ...]]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["N", *shape]
                )
                for name, (dtype, shape) in values.items()
            ]

        proto = helper.make_graph(
            self._nodes, graph_name, value_infos(inputs), value_infos(outputs), self._initializers
        )
        model = helper.make_model(
            proto,
            opset_imports=[helper.make_opsetid("", self.opset)],
            producer_name="mz",
            ir_version=self._ir_version,
        )
        for key, value in (metadata or {}).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        checker.check_model(model)
        return model

"""The layer kinds: one frozen dataclass each, holding structure only (no arrays, no scales).

A layer has one output tensor, named like the layer. Shapes leave the batch axis out: `[C, H, W]` for maps, `[F]` for
vectors; axes count from there (axis 0 is the channel). Arrays of a layer live in `Params[layer.name]` under the names
given in each docstring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

Pads = tuple[int, int, int, int]
"""Rows above, columns left, rows below, columns right (top, left, bottom, right)."""

UNBOUNDED = (-math.inf, math.inf)
IDLE = (1.0, 0.0)
"""A factor and an offset that change nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What every layer has.

    name: unique in its graph, as model scripts call it (`conv1`).
    inputs: names of the layers whose outputs it reads, in order.
    shape: shape of its output without the batch axis.
    origin: names of the ONNX nodes it stands for.
    host: runs in float on the host, after dequantization, outside the integers.
    """

    kind: ClassVar[str] = "layer"
    prefix: ClassVar[str] = "layer"

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    origin: tuple[str, ...] = ()
    host: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Layer):
    """A network input; reads nothing."""

    kind: ClassVar[str] = "input"
    prefix: ClassVar[str] = "input_layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted(Layer):
    """A layer with `kernel` and `bias` whose output is clipped to the real interval `clip` (a fused ReLU,
    ReLU6, Clip).

    clip_by_channel: a pass scaled the channels under a bounded clip, so that the float network clips channel i to
    [`clip_low`[i], `clip_high`[i]] of its Params, both float32 [O]. Integers have one bound a tensor: `clip` still.
    prelu: in the place of a clip there is a PReLU, of the sums before any rounding. Params: `slope` [O] float32.
    """

    clip: tuple[float, float] = UNBOUNDED
    clip_by_channel: bool = False
    prelu: bool = False

    @property
    def is_linear(self) -> bool:
        """Whether its output is its sums, neither clipped nor put through a PReLU."""
        return self.clip == UNBOUNDED and not self.clip_by_channel and not self.prelu


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Weighted):
    """2-D convolution. Params: `kernel` [O, I/groups, kh, kw], `bias` [O], both float32."""

    kind: ClassVar[str] = "conv"
    prefix: ClassVar[str] = "conv"

    kernel_shape: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Deconv(Weighted):
    """Transposed 2-D convolution. Params: `kernel` [I, O/groups, kh, kw] as in ONNX, `bias` [O], both float32.

    pads are cut from the full output, output_padding (rows, columns) is added at the bottom and right.
    """

    kind: ClassVar[str] = "deconv"
    prefix: ClassVar[str] = "deconv"

    kernel_shape: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    output_padding: tuple[int, int] = (0, 0)
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense(Weighted):
    """Fully connected over the last axis. Params: `kernel` [O, I], `bias` [O], both float32."""

    kind: ClassVar[str] = "dense"
    prefix: ClassVar[str] = "fc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation(Layer):
    """An element-wise function, in integers a table.

    function: a name of `mz.graph.functions`; constants: its parameters in that function's order.
    affine: a factor and an offset behind the function, which its table takes up.
    scaled: a pass scaled the channels on either side, so that the layer is `gain f(factor x)`, the affine in f.
    Params where it differs from channel to channel: `slope` [C] float32 for `prelu`; `factor` and `gain` [C]
    where the layer is scaled.
    """

    kind: ClassVar[str] = "activation"
    prefix: ClassVar[str] = "activation"

    function: str
    constants: tuple[float, ...] = ()
    affine: tuple[float, float] = IDLE
    scaled: bool = False

    @property
    def divides(self) -> bool:
        """Whether it is a power below 0, which has a pole."""
        return self.function == "power" and bool(self.constants) and self.constants[0] < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise(Layer):
    """Two inputs of one rank combined value by value, broadcast as numpy does, then clipped to `clip`.

    A constant operand is no element-wise layer: the parser makes it a depthwise 1x1 convolution.
    """

    clip: tuple[float, float] = UNBOUNDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Elementwise):
    """Sum of two tensors.

    prelu: it is no sum but `PReLU(factor (a + b) + offset)`, of the sum before any rounding, in the place of a clip.
    Params: `factor`, `offset` and `slope` [C] float32. Its shape is [C, H, W] or [C].
    """

    kind: ClassVar[str] = "add"
    prefix: ClassVar[str] = "ew_add"

    prelu: bool = False

    @property
    def is_linear(self) -> bool:
        """Whether it is the sum, neither clipped nor put through a PReLU."""
        return self.clip == UNBOUNDED and not self.prelu


@dataclass(frozen=True, slots=True, kw_only=True)
class Sub(Elementwise):
    """First tensor minus the second."""

    kind: ClassVar[str] = "sub"
    prefix: ClassVar[str] = "ew_sub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mul(Elementwise):
    """Product of two tensors."""

    kind: ClassVar[str] = "mul"
    prefix: ClassVar[str] = "ew_mult"

    @property
    def is_square(self) -> bool:
        """Whether it is a tensor's product with itself."""
        return len(set(self.inputs)) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MatMul(Layer):
    """`factor` times the product of two tensors of one rank as matrices: [..., M, K] x [..., K, N] -> [..., M, N], the
    axes before the last two broadcast as numpy does. factor: above 0.

    A constant operand is no layer of this kind: the parser makes it a dense layer.
    """

    kind: ClassVar[str] = "matmul"
    prefix: ClassVar[str] = "matmul"

    factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Layer):
    """2-D maximum; padded places never win. `pads` already hold what ceil mode adds."""

    kind: ClassVar[str] = "maxpool"
    prefix: ClassVar[str] = "maxpool"

    kernel_shape: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(Layer):
    """2-D mean. With `count_include_pad` the divisor is the window's size, else the number of real pixels in it."""

    kind: ClassVar[str] = "avgpool"
    prefix: ClassVar[str] = "avgpool"

    kernel_shape: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    count_include_pad: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAvgPool(Layer):
    """Mean over height and width: [C, H, W] -> [C, 1, 1]."""

    kind: ClassVar[str] = "global_avgpool"
    prefix: ClassVar[str] = "global_avgpool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Layer):
    """Inputs laid side by side along `axis` (0 is the channel)."""

    kind: ClassVar[str] = "concat"
    prefix: ClassVar[str] = "concat"

    axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Layer):
    """`starts[i]:stops[i]:steps[i]` along every axis i; a Split is one Slice per output."""

    kind: ClassVar[str] = "slice"
    prefix: ClassVar[str] = "slice"

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pad(Layer):
    """`values` by channel around height and width; zeros (the zero point, in integers) where there are none."""

    kind: ClassVar[str] = "pad"
    prefix: ClassVar[str] = "pad"

    pads: Pads
    values: tuple[float, ...] = ()

    @property
    def fill(self) -> tuple[float, ...]:
        """What is around each channel."""
        return self.values or (0.0,) * self.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Layer):
    """The same values in the shape `shape`, row-major; Flatten, Squeeze and Unsqueeze are this."""

    kind: ClassVar[str] = "reshape"
    prefix: ClassVar[str] = "reshape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Layer):
    """Axes permuted: output axis i is input axis `permutation[i]` (batch axis not counted)."""

    kind: ClassVar[str] = "transpose"
    prefix: ClassVar[str] = "transpose"

    permutation: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Layer):
    """Height and width resampled to `shape`.

    mode: "nearest" or "bilinear". For output index o the source coordinate follows ONNX's
    `coordinates` ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"), with `scales` (rows, columns) as
    output over input; nearest rounds by `nearest_mode` ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil").
    """

    kind: ClassVar[str] = "resize"
    prefix: ClassVar[str] = "resize"

    mode: str
    scales: tuple[float, float]
    coordinates: str = "half_pixel"
    nearest_mode: str = "round_prefer_floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Layer):
    """exp(x) / sum exp(x) along `axis`; a host layer."""

    kind: ClassVar[str] = "softmax"
    prefix: ClassVar[str] = "softmax"

    axis: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOp(Layer):
    """An ONNX operator that has no integer form; always a host layer.

    It sees the batch in front: axes among its attributes count the batch axis. Its tensor is float32 whatever ONNX says
    (true is 1, an index a whole number). Params: `input<i>` for every constant input, float32.

    operator: its ONNX name. attributes: (name, value), whole numbers that ONNX wants as an input included.
    constants: (place among the inputs, shape) of every constant input, by place.
    """

    kind: ClassVar[str] = "host_op"
    prefix: ClassVar[str] = "host"

    operator: str
    attributes: tuple[tuple[str, Any], ...] = ()
    constants: tuple[tuple[int, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError(f"layer {self.name!r}: {self.operator} runs on the host alone")


LAYER_KINDS: dict[str, type[Layer]] = {
    cls.kind: cls
    for cls in (
        Input,
        Conv,
        Deconv,
        Dense,
        Activation,
        Add,
        Sub,
        Mul,
        MatMul,
        MaxPool,
        AvgPool,
        GlobalAvgPool,
        Concat,
        Slice,
        Pad,
        Reshape,
        Transpose,
        Resize,
        Softmax,
        HostOp,
    )
}
"""Every kind by its name: what the archive writes, and what the test of all lowerings walks."""

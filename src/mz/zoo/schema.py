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


class BundledSource(Section, frozen=True, tag_field="kind", tag="bundled"):
    """An ONNX file that comes with mz; `file` counts from the folder of bundled assets."""

    file: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Positive


class Paths(Section, frozen=True):
    """source: where the network's ONNX comes from; alls_script: its model script, a name in `cfg/scripts`."""

    source: BundledSource | None = None
    alls_script: str | None = None


class Parser(Section, frozen=True):
    """Where the network begins and ends, if not at the ONNX file's own inputs and outputs.

    input_shapes: by input name, without the batch axis; also fixes dynamic axes.
    """

    start_node_names: tuple[str, ...] = ()
    end_node_names: tuple[str, ...] = ()
    input_shapes: dict[str, tuple[Positive, ...]] = {}


class Step(Section, frozen=True, omit_defaults=True):
    """One change of an image's geometry; exactly one key names it.

    pad: rows or columns of zeros added at the top, left, bottom and right.
    """

    pad: tuple[NotNegative, NotNegative, NotNegative, NotNegative] | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not None for name in self.__struct_fields__) != 1:
            raise ValueError(f"a step has exactly one of the keys: {', '.join(self.__struct_fields__)}")


class Preprocessing(Section, frozen=True):
    """From a decoded image (uint8) to the network's input: steps in order, then (x - mean) / std.

    mean, std: in units of 0..255, one for all channels or one a channel in the order of `decode`.
    """

    decode: Decode
    steps: tuple[Step, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

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

    kind: Literal["auto", "bundled", "idx", "classes", "images", "array"] = "auto"
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


class Postprocessing(Section, frozen=True):
    """outputs: what the network's last tensor holds, so that drawings can show probabilities."""

    outputs: Literal["logits", "probabilities"] = "logits"


class Evaluation(Section, frozen=True):
    """dataset: labelled images; metric: the one that degradation is stated in."""

    dataset: DatasetSpec | None = None
    metric: Literal["top1", "top5"] = "top1"


class FullPrecision(Section, frozen=True):
    """Accuracy of the float network over `count` images, metrics in %."""

    top1: float | None = None
    top5: float | None = None
    count: Positive | None = None


class Info(Section, frozen=True):
    """For readers of `mz info` and `mz list`; nothing is computed from it."""

    description: str = ""
    parameters: Positive | None = None
    macs: Positive | None = None
    full_precision: FullPrecision = FullPrecision()
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


class HwArch(Section, frozen=True):
    """A target: which number formats it takes.

    weight_scale: one scale for each output channel, or one for the layer.
    default_precision: of layers that no script mentions, as in `a8_w8`.
    """

    name: str
    activation_bits: tuple[Bits, ...]
    weight_bits: tuple[Bits, ...]
    weight_scale: Literal["per_channel", "per_layer"]
    default_precision: str
    description: str = ""

    def __post_init__(self) -> None:
        match = re.fullmatch(r"a(\d+)_w(\d+)", self.default_precision)
        if not match or int(match[1]) not in self.activation_bits or int(match[2]) not in self.weight_bits:
            raise ValueError(
                f"default_precision {self.default_precision!r} is not a<bits>_w<bits> with bits "
                "of activation_bits and weight_bits"
            )

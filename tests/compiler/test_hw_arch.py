"""What targets take: layers, reasons and ways out in one message, before any image is read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.compiler.random_graphs import with_bits

from mz import flow, zoo
from mz.compiler.hw_arch import check_precisions, kind_on
from mz.compiler.limits import check_fits, check_room, has_room
from mz.compiler.memory_plan import plan_memory
from mz.compiler.supported import page
from mz.errors import UserError
from mz.flow.options import ModelRef, OptimizeOptions
from mz.graph import LAYER_KINDS, Activation, Conv, Dense, Graph, HostOp, Input, Precision, Softmax
from mz.zoo.schema import LayerKind, LayerLimits

MCU, MZ8 = zoo.load_hw_arch("mcu"), zoo.load_hw_arch("mz8")
SHORT_TABLES = msgspec.structs.replace(
    MCU,
    layers=MCU.layers
    | {
        "activation": LayerLimits(
            activation_bits=(4, 8),
            reason="its tables have 256 entries",
            remedy="give the layer and what it reads 8 bits",
        )
    },
)
X = Input(name="x", inputs=(), shape=(4, 8, 8))
LAYERS = (
    X,
    Conv(name="dw", inputs=("x",), shape=(4, 8, 8), kernel_shape=(1, 1), groups=4),
    Activation(name="swish", inputs=("dw",), shape=(4, 8, 8), function="hard_swish"),
    Conv(name="head", inputs=("swish",), shape=(2, 8, 8), kernel_shape=(1, 1)),
    Softmax(name="soft", inputs=("head",), shape=(2, 8, 8), host=True),
)
GRAPH = Graph("net", LAYERS, ("soft",))


def precisions(common: str, **changed: str) -> dict[str, Precision]:
    names = [layer.name for layer in LAYERS if not layer.host]
    return {name: Precision.parse(changed.get(name, common)) for name in names}


def test_every_kind_of_accelerator_layer_can_be_limited():
    inside = {kind for kind, cls in LAYER_KINDS.items() if cls not in (Input, Softmax, HostOp)}
    assert set(LayerKind.__args__) == inside | {"depthwise"}


def test_depthwise_is_a_kind_of_its_own():
    assert kind_on(GRAPH, GRAPH["dw"]) == "depthwise"
    assert kind_on(GRAPH, GRAPH["head"]) == "conv"


@pytest.mark.parametrize("arch", [MZ8, MCU])
@pytest.mark.parametrize("precision", ["a8_w8", "a4_w4"])
def test_what_is_taken_passes(arch: zoo.HwArch, precision: str):
    check_precisions(arch, GRAPH, precisions(precision))


def test_a_limit_of_a_kind_names_layer_reason_and_remedy():
    with pytest.raises(UserError) as told:
        check_precisions(SHORT_TABLES, GRAPH, precisions("a8_w8", dw="a16_w8"))
    assert str(told.value) == (
        "net: hw_arch mcu takes no layer swish (activation) with 16 bits in its input dw: its tables have 256 entries. "
        "Way out: give the layer and what it reads 8 bits"
    )


def test_many_faults_are_counted_and_their_reasons_told_once():
    narrow = msgspec.structs.replace(MZ8, activation_bits=(8,), weight_bits=(8,))
    with pytest.raises(UserError) as told:
        check_precisions(narrow, GRAPH, precisions("a4_w4"))
    message = str(told.value)
    assert message.count("Way out") == 1 and "and 1 more layers" in message
    with pytest.raises(
        UserError, match=r"layer head \(conv\) with weights of 4 bits: weights have 8 bits\. Way out"
    ):
        check_precisions(narrow, GRAPH, precisions("a8_w8", head="a8_w4"))


def test_a_kind_that_is_not_taken_at_all(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "base: [hw_archs/mz8.yaml]\nname: mine\nlayers:\n"
        "  depthwise: {supported: false, reason: it has dense arrays only, remedy: use groups of more channels}\n"
    )
    with pytest.raises(UserError) as told:
        check_precisions(zoo.load_hw_arch(file), GRAPH, precisions("a8_w8"))
    assert str(told.value) == (
        "net: hw_arch mine takes no layer dw of kind depthwise: it has dense arrays only. Way out: use groups of more "
        "channels"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers: {conv: {supported: false}}", "a limit needs a reason and a remedy"),
        ("layers: {convolution: {speed: 0.5}}", "convolution"),
        ("layers: {conv: {speed: 2}}", "layers.conv.speed"),
        ("macs_per_cycle: {a8_w8: -7}", "macs_per_cycle.a8_w8"),
        ("execution: sequential", "has one cluster"),
        ("emit: [tflite]", "tflite"),
    ],
)
def test_faults_in_an_arch_file_are_told(tmp_path: Path, text: str, message: str):
    file = tmp_path / "mine.yaml"
    file.write_text(f"base: [hw_archs/mz8.yaml]\n{text}\n")
    with pytest.raises(UserError, match=message) as told:
        zoo.load_hw_arch(file)
    assert "mine.yaml" in str(told.value)


def test_an_arch_without_rates_for_all_its_formats(tmp_path: Path):
    arch = zoo.to_dict(MZ8)
    del arch["macs_per_cycle"]["a16_w4"]
    with pytest.raises(msgspec.ValidationError, match="macs_per_cycle says nothing of a16_w4"):
        msgspec.convert(arch, zoo.HwArch)


def large(size: int) -> tuple[Graph, dict[str, Precision]]:
    layers = (
        Input(name="x", inputs=(), shape=(size,)),
        Dense(name="fc", inputs=("x",), shape=(100,)),
    )
    return Graph("large", layers, ("fc",)), {"x": Precision(), "fc": Precision()}


def test_the_page_of_supported_layers_is_current():
    found = (Path(__file__).parents[2] / "docs" / "supported-layers.md").read_text()
    assert found == page(), "run: python -m mz.compiler.supported > docs/supported-layers.md"


def test_ram_and_flash_are_told_with_figures_and_ways_out():
    graph, wanted = large(600_000)
    with pytest.raises(UserError) as told:
        check_room(MCU, graph, wanted)
    message = str(told.value)
    for part in (
        "large: too large for hw_arch mcu", "600,112 bytes of RAM (most at layer fc)", "507,904 are left of 524,288",
        "60,000,000 bytes of flash", "2,031,616 are left of 2,097,152", "--compression-level", "--hw-arch",
    ):  # fmt: skip
        assert part in message
    check_room(MZ8, graph, wanted)  # sets no limit
    check_room(MCU, *large(1_000))


def test_tables_over_16_bits_count_where_they_are_a_choice():
    coarse, fine = precisions("a8_w8"), precisions("a8_w8", dw="a16_w8", swish="a16_w8")
    for kilobytes, room in ((64 + 12, False), (64 + 24, True)):
        memory = msgspec.structs.replace(MCU.memory, flash_bytes=kilobytes << 10)
        small = msgspec.structs.replace(MCU, memory=memory)
        assert has_room(small, GRAPH, coarse) and has_room(small, GRAPH, fine) is room
        check_room(small, GRAPH, fine)  # what was asked for is counted once its integers are known


def test_needs_are_exact_at_the_limit():
    graph, _ = large(1_000)
    plan = plan_memory(graph, with_bits({"x": 8, "fc": 8}))
    limit = MCU.memory.flash_bytes - MCU.memory.reserved_flash_bytes
    assert check_fits(MCU, "large", plan, limit)["flash_bytes"] == limit
    with pytest.raises(UserError, match="of flash"):
        check_fits(MCU, "large", plan, limit + 1)


def test_a_target_is_checked_before_calibration(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(np, "histogram", None)  # whatever reads an image fails otherwise
    monkeypatch.setattr("mz.data.open_calibration", None)
    monkeypatch.setattr("mz.zoo.load_hw_arch", lambda name: SHORT_TABLES)
    with pytest.raises(UserError, match=r"mobilenet_v3_fashion: hw_arch mcu takes no layer activation1"):
        flow.optimize(
            ModelRef(model="mobilenet_v3_fashion"), OptimizeOptions(hw_arch="mcu", precision="a16_w8")
        )

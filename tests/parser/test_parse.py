"""The parse as a whole: names, cuts, messages, outputs, parity."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.parser.networks import kinds, network, op, prove, weights

from mz.engines.float_ort import FloatSession
from mz.engines.original import OriginalSession
from mz.errors import UserError
from mz.graph import Graph
from mz.parser import (
    host_operators,
    parity_db,
    parse,
    require_parity,
    signal_to_noise_db,
    supported_operators,
)

X = ["N", 2, 8, 8]
NODES = [
    op("Conv", "x w1", "a"),
    op("Relu", "a", "r"),
    op("Conv", "r w2", "b", group=3),
    op("Conv", "b w3", "c", group=1),
    op("Add", "c b", "s"),
    op("GlobalAveragePool", "s", "g"),
    op("Flatten", "g", "f"),
    op("Gemm", "f w4 b4", "y"),
]
WEIGHTS = {
    "w1": weights(3, 2, 3, 3),
    "w2": weights(3, 1, 1, 1),
    "w3": weights(3, 3, 1, 1),
    "w4": weights(3, 5),
    "b4": weights(5),
}


def test_layers_are_named_as_model_scripts_name_them(proven) -> None:
    result = proven(NODES, X, WEIGHTS)
    names = [layer.name for layer in result.graph.layers]
    assert names == ["input_layer1", "conv1", "dw2", "conv3", "ew_add1", "avgpool1", "reshape1", "fc1"]
    assert result.input_names == {"input_layer1": "x"} and result.output_names == {"fc1": "y"}
    assert result.graph["conv1"].origin == ("Conv_a", "Relu_r")
    assert Graph.from_dict(result.graph.to_dict()) == result.graph


def test_every_array_is_float32(proven) -> None:
    result = proven(NODES, X, WEIGHTS)
    assert {array.dtype for arrays in result.params.values() for array in arrays.values()} == {np.dtype("f4")}


def test_cut_at_both_ends(proven) -> None:
    result = proven(NODES, X, WEIGHTS, start_nodes=["Conv_b"], end_nodes=["Add_s", "Conv_b"])
    assert [layer.name for layer in result.graph.layers] == ["input_layer1", "dw1", "conv2", "ew_add1"]
    assert result.graph.outputs == ("ew_add1", "dw1")
    assert result.input_names == {"input_layer1": "r"}


def test_a_node_may_be_named_by_its_output(proven) -> None:
    assert proven(NODES, X, WEIGHTS, end_nodes=["s"]).output_names == {"ew_add1": "s"}


def test_unknown_nodes_are_answered_with_the_nearest(proven) -> None:
    with pytest.raises(UserError, match=r"'Add_z' \(end node\); nearest: Add_s"):
        proven(NODES, X, WEIGHTS, end_nodes=["Add_z"])
    with pytest.raises(UserError, match="nothing leads from the start node 'Gemm_y'"):
        proven(NODES, X, WEIGHTS, start_nodes=["Gemm_y"], end_nodes=["Add_s"])


def test_unsupported_operators_are_listed_at_once_with_a_way_out(proven) -> None:
    nodes = [
        op("Conv", "x w1", "a"),
        op("GlobalLpPool", "a", "l"),
        op("Add", "l a", "b"),
        op("Det", "b", "s"),
        op("Shape", "s", "n"),
        op("Reshape", "b n", "y"),
    ]
    with pytest.raises(UserError) as caught:
        proven(nodes, X, WEIGHTS)
    message = str(caught.value)
    assert "2 unsupported operators" in message and "\n" not in message
    for part in (
        "GlobalLpPool GlobalLpPool_l: no layer does this",
        "Det Det_s",
        "--end-node-names Conv_a",
    ):
        assert part in message


def test_operators_with_subgraphs_are_listed_too(proven) -> None:
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    branch = helper.make_graph([op("Relu", "x", "i"), op("Abs", "i", "o")], "branch", [], [info])
    nodes = [op("Cast", "k", "yes", to=9), op("If", "yes", "y", then_branch=branch, else_branch=branch)]
    with pytest.raises(UserError, match="If If_y: no layer does this"):
        proven(nodes, X, {"k": 1})


def test_two_outputs_of_one_tensor(proven) -> None:
    nodes = [op("Relu", "x", "y"), op("Identity", "y", "z")]
    result = proven(nodes, X, outputs=["y", "z"])
    assert list(result.output_names.values()) == ["y", "z"]


def test_an_input_that_is_an_output(proven) -> None:
    result = proven([op("Relu", "x", "y"), op("Identity", "x", "z")], X, outputs=["y", "z"])
    assert kinds(result) == ["activation", "reshape"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    missing, text, cut = (tmp_path / name for name in ("missing.onnx", "text.onnx", "cut.onnx"))
    text.write_text("this is no network\n" * 20)
    onnx.save(network(NODES, {"x": X}, WEIGHTS), cut)
    cut.write_bytes(cut.read_bytes()[:-40])
    for path, words in ((missing, "no such file"), (text, "ONNX"), (cut, "ONNX"), (tmp_path, "no such file")):
        with pytest.raises(UserError, match=words) as caught:
            parse(path, name="network")
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_arrays_that_do_not_fit_their_shape(tmp_path: Path) -> None:
    model = network(NODES, {"x": X}, WEIGHTS)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    onnx.save(model, tmp_path / "network.onnx")
    with pytest.raises(UserError, match="network.onnx"):
        parse(tmp_path / "network.onnx", name="network")


@pytest.mark.parametrize("order", [range(len(NODES))[::-1], [1, 0, 2, 7, 6, 5, 4, 3]])
def test_nodes_in_any_order(tmp_path: Path, order) -> None:
    """onnxruntime takes any order; converters to half precision append the casts of the inputs."""
    expected = prove(network(NODES, {"x": X}, WEIGHTS), tmp_path)
    found = prove(network([NODES[place] for place in order], {"x": X}, WEIGHTS), tmp_path)
    assert found.graph == expected.graph


def test_nodes_in_a_circle_are_named(tmp_path: Path) -> None:
    nodes = [op("Relu", "x", "r"), op("Add", "r b", "a"), op("Relu", "a", "b"), op("Add", "a b", "y")]
    onnx.save(network(nodes, {"x": X}), tmp_path / "network.onnx")
    with pytest.raises(UserError, match=r"network.onnx: node (Add_a|Relu_b) reads what is made of its own"):
        parse(tmp_path / "network.onnx", name="network")


def test_open_and_fixed_shapes(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    onnx.save(network(NODES, {"x": ["N", 2, "H", "W"]}, WEIGHTS), path)
    with pytest.raises(UserError, match="input 'x' has the open shape"):
        parse(path, name="network")
    for shape in ([1, 2, 8, 6], [2, 8, 6]):
        assert parse(path, name="network", input_shapes={"x": shape}).graph.inputs[0].shape == (2, 8, 6)
    with pytest.raises(UserError, match="the inputs are x"):
        parse(path, name="network", input_shapes={"z": [1]})
    onnx.save(network(NODES, {"x": [4, 2, 8, 8]}, WEIGHTS), path)
    with pytest.raises(UserError, match="fixed to batches of 4"):
        parse(path, name="network")


def test_nodes_whose_inputs_do_not_fit_are_named(tmp_path: Path) -> None:
    onnx.save(network([op("Add", "x k")], {"x": X}, {"k": weights(3)}), tmp_path / "network.onnx")
    with pytest.raises(UserError, match="Add Add_y: its inputs and attributes do not fit together"):
        parse(tmp_path / "network.onnx", name="network")


@pytest.mark.parametrize("opset", [6, 24])
def test_opset_out_of_range(tmp_path: Path, opset) -> None:
    onnx.save(network([op("Relu", "x")], {"x": X}, opset=opset), tmp_path / "network.onnx")
    with pytest.raises(UserError, match=f"opset {opset} is outside 7 to 23"):
        parse(tmp_path / "network.onnx", name="network")


@pytest.mark.parametrize("opset", range(7, 24))
def test_every_opset(proven, opset) -> None:
    assert len(kinds(proven(NODES, X, WEIGHTS, opset=opset))) == 7


def test_parity_sees_a_changed_weight(tmp_path: Path) -> None:
    from mz.engines.float_ort import FloatSession
    from mz.engines.original import OriginalSession

    path = tmp_path / "network.onnx"
    result = prove(network(NODES, {"x": X}, WEIGHTS), tmp_path)
    result.params["conv1"]["kernel"][0, 0, 0, 0] += 0.01
    runs = (OriginalSession(path).run, FloatSession(result.graph, result.params).run)
    assert parity_db(result, *runs) < 80
    with pytest.raises(UserError, match=r"network: .* dB at output fc1 \(y\)"):
        require_parity(result, *runs)


@pytest.mark.parametrize(
    ("last", "output"),
    [
        (op("Identity", "s"), "activation1"),
        (op("Transpose", "s", perm=[0, 2, 3, 1]), "transpose1"),
        (op("Flatten", "s"), "reshape1"),
    ],
)
def test_parity_of_scores_that_are_nothing_but_rounding(
    tmp_path: Path, last: onnx.NodeProto, output: str
) -> None:
    nodes = [op("Conv", "x w b", "z"), op("Sigmoid", "z", "s"), last]
    path = tmp_path / "scores.onnx"
    onnx.save(network(nodes, {"x": X}, {"w": weights(4, 2, 3, 3), "b": np.full(4, -60, np.float32)}), path)
    result = parse(path, name="scores")
    assert result.scores == {output: ("conv1", "z")}

    def found(taps: list[str]) -> float:
        original = OriginalSession(path, taps=taps and ["z"])
        return parity_db(result, original.run, FloatSession(result.graph, result.params, taps).run)

    assert found(["conv1"]) > 110
    result.params["conv1"]["kernel"][0, 0, 0, 0] += 0.1
    assert found(["conv1"]) < 80
    result.params["conv1"]["bias"] += 60
    assert found(["conv1"]) == found([]) < 0


def test_signal_to_noise() -> None:
    one = np.ones(100)
    assert signal_to_noise_db(one, one) == 200
    assert signal_to_noise_db(one, one * 1.1) == pytest.approx(20)
    assert signal_to_noise_db(one, np.full(100, np.nan)) == -np.inf
    assert signal_to_noise_db(one, one[:50]) == -np.inf


def test_every_operator_and_constraint_is_described() -> None:
    rows = {op_type: (what, limits) for op_type, what, limits in supported_operators()}
    assert rows["Conv"][0].startswith("2-D convolution") and len(rows["Conv"][1]) > 2
    assert all(what and all(limits) for what, limits in rows.values())
    assert all(what and all(limits) for _, what, limits in host_operators())


def test_external_data_files(tmp_path: Path) -> None:
    model = network([op("Conv", "x w")], {"x": X}, {"w": weights(16, 2, 3, 3)})
    path = tmp_path / "external.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    result = parse(path, name="external")
    assert np.array_equal(result.params["conv1"]["kernel"], weights(16, 2, 3, 3))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UserError, match=r"external\.onnx: not a readable ONNX file .*weights\.bin"):
        parse(path, name="external")


@pytest.mark.parametrize("chain", [["Constant"], ["Constant", "Identity"], ["Half", "Cast", "Identity"]])
def test_weights_at_the_end_of_a_chain(proven, chain) -> None:
    array = weights(3, 2, 1, 1)
    half = "Half" in chain
    stored = numpy_helper.from_array(array.astype(np.float16) if half else array)
    nodes, last = [], "w0"
    nodes.append(op("Constant", "", last, value=stored))
    for number, step in enumerate(chain[1:], start=1):
        nodes.append(op(step, last, f"w{number}", **({"to": 1} if step == "Cast" else {})))
        last = f"w{number}"
    result = proven([*nodes, op("Conv", f"x {last}")], X)
    assert [layer.kind for layer in result.graph.layers] == ["input", "conv"]


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


QUICK = ["inception_v1", "shufflenet", "squeezenet"]
SLOW = ["bvlc_alexnet", "densenet121", "inception_v2", "resnet50", "vgg19", "zfnet512"]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_light_networks(name) -> None:
    path = LIGHT / f"light_{name}.onnx"
    result = parse(path, name=name)
    found = parity_db(
        result, OriginalSession(path, 1).run, FloatSession(result.graph, result.params, (), 1).run, batch=1
    )
    assert found > 100
    assert result.graph.coverage().macs_percent == 100


MIRROR = os.environ.get("MZ_MIRROR", "")


@pytest.mark.skipif(not MIRROR, reason="MZ_MIRROR does not name a folder of networks")
@pytest.mark.parametrize(
    ("stem", "at_least_db"),
    [
        ("efficientnet_lite0_bn", 110),
        ("mobilenet_v1_0.25_224_bn", 100),
        ("resnet20_cifar10_bn", 110),
        ("fastestdet_352", 110),
        ("ultraface_rfb_320x240", 110),
        ("yunet_n_320", 110),
        ("espnet_camvid_360x480_bn", 110),
        ("ppocr_mobile_v2.0_cls_48x192", 110),
        ("ppocrv4_rec_48x320", 100),
    ],
)
def test_real_networks(tmp_path: Path, stem: str, at_least_db: float) -> None:
    (path,) = Path(MIRROR).rglob(f"{stem}.onnx")
    prove(onnx.load(path), tmp_path, at_least_db=at_least_db)

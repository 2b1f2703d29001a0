from __future__ import annotations

from pathlib import Path

import pytest

from mz import zoo
from mz.errors import UserError
from mz.zoo.hierarchy import resolve
from mz.zoo.locate import config_root

HEAD = "base: [base/fashion_mnist.yaml]\nnetwork: {name: x}\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_merge_is_deep_and_later_wins(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "s: {x: 1, y: {p: 1, q: 1}, l: [1, 2]}\n")
    write(tmp_path / "b.yaml", "s: {x: 2, y: {q: 2}}\nt: {z: 2}\n")
    file = write(tmp_path / "c.yaml", "base: [a.yaml, b.yaml]\ns: {l: [3]}\nt: 5\n")
    resolved = resolve(file)
    assert resolved.data == {"s": {"x": 2, "y": {"p": 1, "q": 2}, "l": [3]}, "t": 5}
    origins = {
        key: Path(resolved.origin(key)).name for key in [("s", "x"), ("s", "y", "p"), ("s", "l"), ("t",)]
    }
    assert origins == {
        ("s", "x"): "b.yaml",
        ("s", "y", "p"): "a.yaml",
        ("s", "l"): "c.yaml",
        ("t",): "c.yaml",
    }


def test_a_base_is_found_beside_the_file_before_cfg(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write(tmp_path / "base" / "fashion_mnist.yaml", "mine: 1\n")
    assert resolve(write(tmp_path / "x.yaml", "base: [base/fashion_mnist.yaml]\n")).data == {"mine": 1}


def test_a_base_may_be_inherited_twice(tmp_path: Path) -> None:
    write(tmp_path / "root.yaml", "v: 1\n")
    for name in "ab":
        write(tmp_path / f"{name}.yaml", f"base: [root.yaml]\n{name}: 1\n")
    file = write(tmp_path / "c.yaml", "base: [a.yaml, b.yaml]\n")
    assert resolve(file).data == {"v": 1, "a": 1, "b": 1}


def test_a_circle_names_its_chain(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "base: [b.yaml]\n")
    write(tmp_path / "b.yaml", "base: [c.yaml]\n")
    write(tmp_path / "c.yaml", "base: [b.yaml]\n")
    with pytest.raises(UserError) as caught:
        resolve(tmp_path / "a.yaml")
    assert str(caught.value).endswith(
        f"a circle, {tmp_path}/b.yaml -> {tmp_path}/c.yaml -> {tmp_path}/b.yaml"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: [gone.yaml]\n", "x.yaml: base: 'gone.yaml' is neither beside this file nor in cfg/"),
        ("base: x\n", "x.yaml: base: expected a list of file names"),
        ("a: [\n", "x.yaml:2: not valid YAML: "),
        ("a: 1\n\tb: 2\n", "x.yaml:2: not valid YAML: "),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "x.yaml:4: not valid YAML: key 'c' is given twice"),
        ("3: 1\n", "x.yaml:1: not valid YAML: key 3 is not text"),
        ("a: *b\n", "x.yaml:1: not valid YAML: found undefined alias"),
        ("a: !!python/object:os.system {}\n", "x.yaml:1: not valid YAML: "),
        ("- 1\n", "x.yaml: expected a mapping of sections at the top"),
        ("", "x.yaml: expected a mapping of sections at the top"),
        ("a: \x01\n", "x.yaml: not valid YAML: "),
    ],
)
def test_yaml_errors_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(write(tmp_path / "x.yaml", text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_merge_keys_and_anchors_still_work(tmp_path: Path) -> None:
    file = write(tmp_path / "x.yaml", "a: &a {p: 1, q: 1}\nb:\n  <<: *a\n  q: 2\n")
    assert resolve(file).data["b"] == {"p": 1, "q": 2}


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.yaml: no such file"):
        zoo.load_network(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        zoo.load_network(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(UserError, match="cannot be read"):
        zoo.load_network(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preprocesing: {}", "preprocesing: unknown key; did you mean 'preprocessing' or 'postprocessing'?"),
        ("preprocessing: {meen: [1]}", "preprocessing.meen: unknown key; did you mean 'mean'?"),
        ("qqq: {}", "qqq: unknown key; known here: network, "),
        (
            "preprocessing: {decode: grey}",
            "preprocessing.decode: 'grey' is not one of bgr, gray, rgb; did you mean 'gray'?",
        ),
        (
            "preprocessing: {steps: [{padd: [1, 1, 1, 1]}]}",
            "preprocessing.steps[0].padd: unknown key; did you mean 'pad'?",
        ),
        ("preprocessing: {steps: [{}]}", "preprocessing.steps[0]: a step has exactly one of the keys: pad"),
        (
            "preprocessing: {steps: [{pad: [1, -1, 1, 1]}]}",
            "preprocessing.steps[0].pad[1]: expected a whole number >= 0",
        ),
        ("preprocessing: {std: [0]}", "preprocessing: std must be above 0"),
        ("preprocessing: {std: [1, 2]}", "preprocessing: std has 2 values, decode 'gray' gives 1 channels"),
        (
            "preprocessing: {std: [1e-3]}",
            "preprocessing.std[0]: expected a number, got text (1e-3 must be written 1.0e-3",
        ),
        ("preprocessing:", "preprocessing: expected a mapping, got nothing"),
        (
            "parser: {input_shapes: {input: [1, x]}}",
            "parser.input_shapes.input[1]: expected a whole number, got text",
        ),
        (
            "parser: {input_shapes: {a: [1], input: [1, 0]}}",
            "parser.input_shapes.input[1]: expected a whole number >= 1",
        ),
        ("parser: {input_shapes: [1]}", "parser.input_shapes: expected a mapping, got a list"),
        (
            "paths: {source: {kind: bundel}}",
            "paths.source.kind: 'bundel' is not one of bundled, url, pypi, mirror",
        ),
        ("paths: {source: {kind: bundled}}", "paths.source.file: this key is required"),
        ("evaluation: {metric: top2}", "evaluation.metric: 'top2' is not one of "),
        (
            "evaluation: {dataset: {kind: bundel}}",
            "evaluation.dataset.kind: 'bundel' is not one of array, auto, bundled",
        ),
        ("evaluation: {dataset: {name: }}", "evaluation.dataset: a bundled data set needs its name"),
        (
            "quantization: {calibration: {count: yes}}",
            "quantization.calibration.count: expected a whole number, got true or",
        ),
        ("info: {license: MIT}", "info.license: unknown key; did you mean 'licence'?"),
    ],
)
def test_wrong_keys_and_values_name_file_key_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "x.yaml", f"{HEAD}{text}\n")
    with pytest.raises(UserError) as caught:
        zoo.load_network(file)
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_an_error_in_a_base_names_the_base(tmp_path: Path) -> None:
    base = write(tmp_path / "family.yaml", "base: [base/fashion_mnist.yaml]\npreprocessing: {meen: [1]}\n")
    file = write(tmp_path / "x.yaml", "base: [family.yaml]\nnetwork: {name: x}\npreprocessing: {std: [2]}\n")
    with pytest.raises(UserError) as caught:
        zoo.load_network(file)
    assert str(caught.value) == f"{base}: preprocessing.meen: unknown key; did you mean 'mean'?"


def test_files_of_the_zoo_are_named_from_cfg_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tmp_path / "cfg"
    for part in ("base", "networks"):
        (cfg / part).mkdir(parents=True)
    write(cfg / "base" / "b.yaml", "network: {task: classification, name: x, nam: y}\n")
    write(cfg / "networks" / "x.yaml", "base: [base/b.yaml]\npreprocessing: {decode: rgb}\n")
    for module in ("locate", "hierarchy", "networks"):
        monkeypatch.setattr(f"mz.zoo.{module}.config_root", lambda: cfg)
    with pytest.raises(
        UserError, match=r"^cfg/base/b\.yaml: network\.nam: unknown key; did you mean 'name'\?$"
    ):
        zoo.load_network("x")


def test_a_hw_arch_checks_its_default(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.yaml", "base: [hw_archs/mz8.yaml]\nactivation_bits: [8]\ndefault_precision: a16_w8\n"
    )
    with pytest.raises(UserError, match="default_precision 'a16_w8' is not a<bits>_w<bits> with bits of"):
        zoo.load_hw_arch(file)
    write(file, "base: [hw_archs/mz8.yaml]\nactivation_bits: [7]\n")
    with pytest.raises(UserError, match=r"activation_bits\[0\]: 7 is not one of 4, 8, 16"):
        zoo.load_hw_arch(file)


def test_a_configuration_needs_its_sections(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.yaml: network: this key is required"):
        zoo.load_network(write(tmp_path / "x.yaml", "info: {}\n"))


def test_the_root_of_the_checkout_or_wheel_is_found() -> None:
    assert (config_root() / "networks" / "resnet8_fashion.yaml").is_file()

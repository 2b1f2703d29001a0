from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.tasks.answers import info

from mz import tasks, zoo
from mz.errors import UserError
from mz.tasks.text_recognition import decode, edit_distance
from mz.zoo import schema

CONFIG = zoo.load_network("ppocrv4_rec")
LETTERS = ("a", "b", "c", " ")


def with_letters(characters: tuple[str, ...] = LETTERS) -> zoo.NetworkConfig:
    return msgspec.structs.replace(CONFIG, postprocessing=schema.Postprocessing(characters=characters))


TASK = tasks.load(with_letters())


def columns(*texts: str) -> np.ndarray:
    """[N, columns, 5]: `-` is the blank, every other sign its own symbol."""
    order = ["-", *LETTERS]
    return np.eye(5, dtype=np.float32)[[[order.index(sign) for sign in text] for text in texts]]


@pytest.mark.parametrize(
    ("read", "text"),
    [("aa-a", "aa"), ("----", ""), ("a b-", "a b"), ("aabb", "ab"), ("-c- ", "c "), ("a--a", "aa")],
)
def test_greedy_decoding(read: str, text: str) -> None:
    assert decode("x", [columns(read)], LETTERS) == [text]


@pytest.mark.parametrize("characters", [("a", "b", "c"), LETTERS, ("blank", *LETTERS)])
def test_the_forms_that_character_sets_have(characters: tuple[str, ...]) -> None:
    assert decode("x", [columns("abc ")], characters) == ["abc "]


def test_a_character_set_of_another_network() -> None:
    with pytest.raises(UserError, match="tells 5 symbols .* its character set has 2"):
        decode("x", [columns("abc ")], ("a", "b"))
    with pytest.raises(UserError, match=r"expects one output \[N, columns, symbols\]"):
        decode("x", [np.zeros((1, 5))], LETTERS)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance(a: str, b: str) -> None:
    def recursive(x: str, y: str) -> int:
        if not x or not y:
            return len(x) + len(y)
        if x[0] == y[0]:
            return recursive(x[1:], y[1:])
        return 1 + min(recursive(x[1:], y), recursive(x, y[1:]), recursive(x[1:], y[1:]))

    assert edit_distance(a, b) == recursive(a, b)


def test_metrics() -> None:
    evaluator = TASK.evaluator()
    answers = evaluator.update([columns("a-bc", "a- b")], info(["abc", "ab"]))
    evaluator.update([columns("----", "aa--")], info(["", "b"]))
    result = evaluator.result()
    assert answers == ["abc", "a b"] and result.count == 4
    assert result.metrics == pytest.approx(
        {"exact": 50.0, "exact_without_spaces": 75.0, "edit_similarity": 100 * (1 + 2 / 3 + 1 + 0) / 4}
    )
    assert set(result.ci95) == set(result.metrics)
    part, whole = TASK.agreement(["a", "b"], ["a", "c"])
    assert part.tolist() == [1, 0] and whole.tolist() == [1, 1]
    low, high = result.ci95["edit_similarity"]
    assert low < result.metrics["edit_similarity"] < high
    assert tasks.degradation(result, result)["edit_similarity"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_labels_that_are_no_texts() -> None:
    with pytest.raises(UserError, match="these images have other labels"):
        TASK.evaluator().update([columns("abc")], info(np.array([1])))


def model(path: Path, **properties: str) -> Path:
    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    content = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))
    helper.set_model_props(content, properties)
    onnx.save(content, path)
    return path


def test_characters_from_the_onnx_file(tmp_path: Path) -> None:
    file = model(tmp_path / "net.onnx", character="a\nb\n中\n")
    assert tasks.with_characters(CONFIG, file).postprocessing.characters == ("a", "b", "中")
    with pytest.raises(UserError, match=r"other\.onnx: has no property 'character'"):
        tasks.with_characters(CONFIG, model(tmp_path / "other.onnx"))


def test_characters_from_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "signs.txt").write_text("blank\na\r\n ", encoding="utf-8", newline="")
    config = msgspec.structs.replace(CONFIG, postprocessing=schema.Postprocessing(charset_file="signs.txt"))
    found = tasks.with_characters(config, tmp_path / "net.onnx")
    assert found.postprocessing.characters == ("blank", "a", " ")
    with pytest.raises(UserError, match=r"charset_file: no file 'signs\.txt'"):
        tasks.with_characters(config, tmp_path / "elsewhere" / "net.onnx")
    plain = zoo.load_network("resnet8_fashion")
    assert tasks.with_characters(plain, tmp_path / "net.onnx") is plain


def test_orientation_has_one_metric() -> None:
    task = tasks.load(zoo.load_network("ppocr_mobile_v2_cls"))
    evaluator = task.evaluator()
    evaluator.update([np.array([[0.9, 0.1], [0.6, 0.4]])], info(np.array([0, 1])))
    assert evaluator.result().metrics == {"accuracy": 50.0}
    line = np.zeros((48, 100, 3), np.uint8)
    assert task.draw(line, [np.array([0.9, 0.1])], 0).size[0] > 300


def test_drawing_a_wrong_text_in_red() -> None:
    line = np.full((48, 100, 3), 255, np.uint8)
    right = np.asarray(TASK.draw(line, [columns("ab--")[0]], "ab", title="float"), int)
    wrong = np.asarray(TASK.draw(line, [columns("ab--")[0]], "ba", title="float"), int)
    assert not ((right[..., 0] - right[..., 1]) > 100).any()
    assert ((wrong[..., 0] - wrong[..., 1]) > 100).any()

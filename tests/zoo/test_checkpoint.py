"""Checkpoints of PyTorch read without PyTorch: both formats, whatever is damaged, and whatever is no data."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mz.errors import UserError
from mz.zoo.checkpoint import read_checkpoint
from mz.zoo.unpickle import unpickle

MAGIC, PROTOCOL, MACHINE = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}


class Named:
    """Pickles as the class or function of that name, which need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function: Named, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Stored:
    """Pickles as a reference to a storage."""

    def __init__(self, *key: Any) -> None:
        self.key = key


class Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Python's own pickler, with the three above."""

    def persistent_id(self, value: Any) -> Any:
        return value.key if isinstance(value, Stored) else None

    def save(self, value: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            super().save(tuple(value.arguments))
            self.write(pickle.REDUCE)
        else:
            super().save(value, *arguments, **options)


def pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


FLOATS = np.arange(12, dtype=np.float32)
FLOAT_STORAGE = Named("torch", "FloatStorage")
REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def tensor(
    shape: tuple[int, ...] = (3, 4),
    strides: tuple[int, ...] = (4, 1),
    offset: int = 0,
    count: int = 12,
    kind: Named = FLOAT_STORAGE,
) -> Call:
    storage = Stored("storage", kind, "7", "cuda:0", count, None)
    return Call(REBUILD, storage, offset, shape, strides, False, OrderedDict())


def legacy(
    tree: Any, content: bytes = FLOATS.tobytes(), count: int = 12, keys: tuple[str, ...] = ("7",)
) -> bytes:
    heads = [MAGIC, PROTOCOL, MACHINE, tree, list(keys)]
    return b"".join(map(pickled, heads)) + struct.pack("<q", count) + content


def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "net.th"
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("zipped", [False, True])
def test_what_pytorch_writes(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    weights = {
        "conv.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
        "transposed": torch.arange(6, dtype=torch.float64).reshape(2, 3).t(),
        "part": torch.arange(10, dtype=torch.float16)[3:7],
        "count": torch.tensor(5),
        "bytes": torch.arange(4, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "brief": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    }
    state = OrderedDict((f"module.{name}", value) for name, value in weights.items())
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    path = tmp_path / "net.pth"
    tree = {"state_dict": state, "best": 91.7, "epoch": 3}
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) == zipped
    found = read_checkpoint(path)
    assert list(found) == list(weights)
    for name, value in weights.items():
        expected = value.detach()
        expected = expected.float() if name == "brief" else expected
        assert found[name].dtype == expected.numpy().dtype and found[name].shape == tuple(expected.shape)
        assert np.array_equal(found[name], expected.numpy())


def test_a_bare_state_dict(tmp_path: Path) -> None:
    found = read_checkpoint(file(tmp_path, legacy({"a": tensor(), "module.b": tensor((4, 3), (1, 4))})))
    assert list(found) == ["a", "module.b"]
    assert np.array_equal(found["a"], FLOATS.reshape(3, 4))
    assert np.array_equal(found["module.b"], FLOATS.reshape(3, 4).T)


@pytest.mark.parametrize(
    "call",
    [
        Call(Named("os", "system"), "echo broken into"),
        Call(Named("posix", "system"), "echo broken into"),
        Call(Named("builtins", "eval"), "1"),
        Call(Named("builtins", "getattr"), OrderedDict(), "clear"),
        Call(Named("torch", "_utils.os.system"), "echo broken into"),
        Call(Named("torch.serialization", "load"), "other.pth"),
        Call(Named("numpy.core.multiarray", "_reconstruct"), 1),
        Named("mz.errors", "UserError"),
    ],
)
@pytest.mark.parametrize("place", ["head", "tree", "inside"])
def test_what_is_no_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, place: str
) -> None:
    def run(*_: Any) -> None:
        pytest.fail("the pickle was executed")

    monkeypatch.setattr("os.system", run)
    monkeypatch.setattr("posix.system", run)
    monkeypatch.setattr("builtins.eval", run)
    content = {
        "head": pickled(call),
        "tree": legacy(call),
        "inside": legacy({"a": tensor(), "b": [call]}),
    }[place]
    named = call if isinstance(call, Named) else call.function
    assert f"the pickle asks for {named.module}.{named.name}, which is not data" in refusal(
        file(tmp_path, content)
    )


def test_what_is_no_data_is_refused_in_a_zip_too(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", pickled({"a": Call(Named("os", "system"), "x")}))
    assert "asks for os.system" in refusal(file(tmp_path, buffer.getvalue()))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": 3}, "'a' in its state dict is no tensor but a int"),
        ({"a": tensor(), 3: tensor()}, "3 in its state dict"),
        ({"a": FLOAT_STORAGE}, "'a' in its state dict is no tensor but a StorageType"),
        (tensor(), "holds no state dict but a Tensor"),
        ({"state_dict": {}}, "holds no state dict but a dict"),
        ({"a": tensor((3, 5), (4, 1))}, "a reaches beyond its storage"),
        ({"a": tensor((3, 4), (4, 1), offset=1)}, "a reaches beyond its storage"),
        ({"a": tensor((2,), (-1,))}, "a tensor with shape"),
        ({"a": tensor((2, 2), (1,))}, "a tensor with shape"),
        ({"a": tensor(offset=-1)}, "a tensor with shape"),
        ({"a": tensor(kind=Named("torch", "QInt8Storage"))}, "asks for torch.QInt8Storage"),
        ({"a": Call(REBUILD, "x", 0, (1,), (1,))}, "a tensor with shape"),
        ({"a": Call(REBUILD, 1)}, "not a pickle that can be read"),
        ({"a": Stored("module", "x")}, "a reference to a storage that mz cannot read"),
        ({"a": Stored("storage", FLOAT_STORAGE, "7", "cpu", 12, ("8", 0, 3))}, "a reference to a storage"),
    ],
)
def test_trees_that_are_no_state_dict(tmp_path: Path, tree: Any, message: str) -> None:
    refers = isinstance(tree, Call) or any(isinstance(value, Call) for value in tree.values())
    assert message in refusal(file(tmp_path, legacy(tree, keys=("7",) if refers else ())))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a pickle"),
        (b"hello", "not a pickle"),
        (pickled(3), "not a checkpoint of PyTorch"),
        (pickled(MAGIC) + pickled(1000), "of format 1000"),
        (pickled(MAGIC) + pickled(PROTOCOL) + pickled({"little_endian": False}), "big-endian"),
        (legacy({"a": tensor()}, count=11), "another length"),
        (legacy({"a": tensor()}, keys=("8",)), "its storages are not those"),
        (legacy({"a": tensor()})[:-1], "truncated"),
        (legacy({"a": tensor(count=1 << 50)}), "truncated"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(file(tmp_path, content))


def test_every_truncation_is_told(tmp_path: Path) -> None:
    whole = legacy({"state_dict": OrderedDict(a=tensor(), b=tensor((12,), (1,)))})
    for length in range(0, len(whole), 3):
        refusal(file(tmp_path, whole[:length]))


def test_every_damaged_byte_is_survived(tmp_path: Path) -> None:
    """A flipped byte may change a number; it never ends in anything but weights or a line for the user."""
    whole = legacy({"state_dict": OrderedDict(a=tensor())})
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        with suppress(UserError):
            read_checkpoint(file(tmp_path, bytes(damaged)))


def test_zip_archives_without_their_parts(tmp_path: Path) -> None:
    def archive(members: dict[str, bytes]) -> Path:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return file(tmp_path, buffer.getvalue())

    tree = pickled({"a": Call(REBUILD, Stored("storage", FLOAT_STORAGE, "0", "cpu", 12), 0, (12,), (1,))})
    good = {"net/data.pkl": tree, "net/byteorder": b"little", "net/data/0": FLOATS.tobytes()}
    assert np.array_equal(read_checkpoint(archive(good))["a"], FLOATS)
    assert "has no data.pkl" in refusal(archive({"other": b""}))
    assert "has no storage 0" in refusal(archive({"net/data.pkl": tree}))
    assert "another length" in refusal(archive(good | {"net/data/0": b"1234"}))
    assert "big-endian" in refusal(archive(good | {"net/byteorder": b"big"}))


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "gone.pth")


def test_objects_outside_a_pickle_are_refused_where_none_belong() -> None:
    with pytest.raises(UserError, match="x: the pickle refers to objects outside it"):
        unpickle(io.BytesIO(pickled(Stored("storage"))), {}, "x")

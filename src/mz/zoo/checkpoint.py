"""PyTorch checkpoints without PyTorch: the weights as numpy arrays, from both formats that torch.save has written.

The old one is a row of pickles (magic number, protocol, machine, objects, storage keys) followed by the raw storages;
the new one is a zip archive with `data.pkl` and a file for each storage. Pickles are read by `mz.zoo.unpickle`.
"""

from __future__ import annotations

import functools
import math
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mz.errors import UserError
from mz.zoo.unpickle import unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STATE_KEYS = ("state_dict", "model")
_NUMPY = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True, slots=True)
class StorageType:
    """Stands for a class such as torch.FloatStorage. dtype: numpy's, little-endian; bfloat16 comes as its bits."""

    name: str

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(_NUMPY[self.name])


@dataclass(frozen=True, slots=True)
class Storage:
    """A row of numbers outside the pickle. count: of numbers."""

    type: StorageType
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, not read yet: offset and strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The weights in a checkpoint by name; bfloat16 as float32, other types as stored.

    A state dict may be the whole file or stand under `state_dict` or `model`; the `module.` that training on several
    devices puts before every name is dropped, and so is whatever else lies beside the state dict.
    Raises UserError for a file that is damaged, of no known format, or holds other objects than tensors.
    """
    try:
        with path.open("rb") as file:
            tree, storages = _read_zip(file, path) if zipfile.is_zipfile(file) else _read_legacy(file, path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: the checkpoint cannot be read: {error}") from error
    state = _state_dict(tree, path)
    return {name: _array(tensor, storages, name, path) for name, tensor in state.items()}


def _state_dict(tree: Any, path: Path) -> dict[str, Tensor]:
    key = next(
        (key for key in _STATE_KEYS if isinstance(tree, Mapping) and isinstance(tree.get(key), Mapping)), None
    )
    found = tree if key is None else tree[key]
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{path}: holds no state dict but a {type(found).__name__}")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"{path}: {name!r} in its state dict is no tensor but a {type(tensor).__name__}")
    parallel = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if parallel else name: tensor for name, tensor in found.items()}


def _array(tensor: Tensor, storages: Mapping[str, bytes], name: str, path: Path) -> np.ndarray:
    """A copy of the tensor's numbers, its bounds checked against the storage."""
    storage = tensor.storage
    data = np.frombuffer(storages[storage.key], storage.type.dtype)
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if math.prod(tensor.shape) and last >= len(data):
        raise UserError(f"{path}: {name} reaches beyond its storage")
    steps = tuple(stride * data.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, steps, writeable=False)
    if storage.type.name == "BFloat16Storage":
        return (view.astype(np.uint32) << 16).view(np.float32)
    return view.astype(storage.type.dtype.newbyteorder("="), order="C")


def _read_legacy(file: BinaryIO, path: Path) -> tuple[Any, dict[str, bytes]]:
    where = str(path)
    file.seek(0)
    if unpickle(file, {}, where) != _MAGIC:
        raise UserError(f"{path}: not a checkpoint of PyTorch")
    if (protocol := unpickle(file, {}, where)) != _PROTOCOL:
        raise UserError(f"{path}: a checkpoint of format {protocol!r}; known is {_PROTOCOL}")
    machine = unpickle(file, {}, where)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise UserError(f"{path}: written on a big-endian machine, which mz does not read")
    known: dict[str, Storage] = {}
    tree = unpickle(file, _allowed(where), where, persistent=functools.partial(_storage, known, where))
    keys = unpickle(file, {}, where)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(known):
        raise UserError(f"{path}: its storages are not those that its tensors refer to")
    storages = {}
    for key in map(str, keys):
        size = known[key].count * known[key].type.dtype.itemsize
        if path.stat().st_size - file.tell() < 8 + size:
            raise UserError(f"{path}: the checkpoint is truncated")
        if struct.unpack("<q", file.read(8))[0] != known[key].count:
            raise UserError(f"{path}: a storage has another length than its tensors say")
        storages[key] = file.read(size)
    return tree, storages


def _read_zip(file: BinaryIO, path: Path) -> tuple[Any, dict[str, bytes]]:
    where = str(path)
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickled = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if pickled is None:
            raise UserError(f"{path}: not a checkpoint of PyTorch: has no data.pkl")
        root = pickled.removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise UserError(f"{path}: written on a big-endian machine, which mz does not read")
        known: dict[str, Storage] = {}
        with archive.open(pickled) as stream:
            persistent = functools.partial(_storage, known, where)
            tree = unpickle(stream, _allowed(where), where, persistent=persistent)  # type: ignore[arg-type]
        storages = {}
        for key, storage in known.items():
            if f"{root}data/{key}" not in names:
                raise UserError(f"{path}: has no storage {key}")
            storages[key] = archive.read(f"{root}data/{key}")
            if len(storages[key]) != storage.count * storage.type.dtype.itemsize:
                raise UserError(f"{path}: a storage has another length than its tensors say")
    return tree, storages


def _storage(known: dict[str, Storage], where: str, key: Any) -> Storage:
    """The storage that a persistent id stands for: ("storage", type, key, device, count[, view])."""
    match key:
        case ("storage", StorageType() as kind, str(name), str(), int(count), *view) if (
            count >= 0 and view in ([], [None])
        ):
            return known.setdefault(name, Storage(kind, name, count))
    raise UserError(f"{where}: a reference to a storage that mz cannot read: {str(key)[:80]}")


def _allowed(where: str) -> dict[tuple[str, str], Any]:
    def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
        numbers = (offset, *shape, *strides)
        if (
            not isinstance(storage, Storage)
            or len(shape) != len(strides)
            or not all(type(number) is int and number >= 0 for number in numbers)
        ):
            raise UserError(f"{where}: a tensor with shape {shape!s:.40} and strides {strides!s:.40}")
        return Tensor(storage, offset, tuple(shape), tuple(strides))

    def parameter(data: Any, *_: Any) -> Any:
        return data

    allowed: dict[tuple[str, str], Any] = {("torch", name): StorageType(name) for name in _NUMPY}
    allowed["torch._utils", "_rebuild_tensor"] = tensor
    allowed["torch._utils", "_rebuild_tensor_v2"] = tensor
    allowed["torch._utils", "_rebuild_parameter"] = parameter
    allowed["collections", "OrderedDict"] = OrderedDict
    return allowed

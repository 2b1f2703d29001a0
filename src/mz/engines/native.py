"""The native engine: a network's C sources, built with this machine's compiler and called image by image."""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mz.errors import UserError
from mz.graph import Pixels
from mz.threads import processors, side_by_side

FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fPIC")
_MAX_RANK = 6


class _Tensor(ctypes.Structure):
    """mz_tensor of mz.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("offset", ctypes.c_int32),
        ("bits", ctypes.c_int32),
        ("zero_point", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int32 * _MAX_RANK),
        ("mean", ctypes.POINTER(ctypes.c_float)),
        ("std", ctypes.POINTER(ctypes.c_float)),
    )


class _Model(ctypes.Structure):
    """mz_model of mz.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("arena_bytes", ctypes.c_int32),
        ("input_count", ctypes.c_int32),
        ("inputs", ctypes.POINTER(_Tensor)),
        ("output_count", ctypes.c_int32),
        ("outputs", ctypes.POINTER(_Tensor)),
        ("run", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    )


class NativeSession:
    """A network's C code, ready to run; the same interface and integers as `emulator.NumpySession`."""

    name = "native"
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, symbol: str, threads: int = 0, pixels: Pixels | None = None) -> None:
        """path: a shared library that `build` made. symbol: the network's, as its header has it; there may be several.
        pixels: where the network takes pixels and the program images, which are made of them first.

        Raises UserError where the library's arithmetic is not as it must be.
        """
        library = ctypes.CDLL(str(path))
        self._model = _Model.in_dll(library, symbol)
        self._quantize = library.mz_quantize
        self._quantize.argtypes = (ctypes.POINTER(_Tensor), ctypes.c_void_p, ctypes.c_void_p)
        self._quantize.restype = None
        self._integers = library.mz_integers
        self._integers.argtypes = self._quantize.argtypes
        self._integers.restype = None
        library.mz_check.restype = ctypes.c_char_p
        if fault := library.mz_check():
            raise UserError(fault.decode())
        self._library = library
        self._inputs = [self._model.inputs[i] for i in range(self._model.input_count)]
        self._outputs = [self._model.outputs[i] for i in range(self._model.output_count)]
        self._threads, self._pixels = threads or processors(), pixels

    @property
    def arena_bytes(self) -> int:
        return int(self._model.arena_bytes)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs, float32 [N, *shape] by Input layer -> integers (uint8 or uint16) of accelerator outputs."""
        feeds = self._pixels.normalized(feeds) if self._pixels else feeds
        count = len(next(iter(feeds.values())))
        real = [np.ascontiguousarray(feeds[tensor.name.decode()], np.float32) for tensor in self._inputs]
        found = [np.empty((count, *tensor.shape[: tensor.rank]), np.uint16) for tensor in self._outputs]
        workers = max(1, min(self._threads, count))

        def work(worker: int) -> None:
            arena = self.arena()
            for image in range(worker, count, workers):
                for tensor, values in zip(self._inputs, real, strict=True):
                    self._quantize(tensor, values[image].ctypes.data, arena.ctypes.data)
                self._model.run(arena.ctypes.data)
                for tensor, integers in zip(self._outputs, found, strict=True):
                    self._integers(tensor, arena.ctypes.data, integers[image : image + 1].ctypes.data)

        if workers == 1:
            work(0)
        else:
            side_by_side(work, range(workers), workers)
        return {
            tensor.name.decode(): integers if tensor.bits > 8 else integers.astype(np.uint8)
            for tensor, integers in zip(self._outputs, found, strict=True)
        }

    def arena(self) -> np.ndarray:
        """Memory for one run at a time."""
        return np.zeros(self.arena_bytes, np.uint8)

    def run_in(self, arena: np.ndarray) -> None:
        """The network alone, from the integers that lie in `arena`: what a benchmark times."""
        self._model.run(arena.ctypes.data)


def open_native(
    files: Mapping[str, bytes],
    network: str,
    threads: int = 0,
    flags: Sequence[str] = (),
    pixels: Pixels | None = None,
) -> NativeSession:
    """The files that the C target emitted for a network, by name, built and ready to run.

    flags: options of the compiler beyond the usual. pixels: as `NativeSession` has them. Raises UserError where there
    is no compiler, it refuses the sources, or the program's arithmetic is not as it must be.
    """
    found = re.search(rb"extern const mz_model (\w+);", files[f"{network}.h"])
    assert found is not None, f"{network}.h declares no network"
    return NativeSession(build(files, flags), found[1].decode(), threads, pixels)


def compiler() -> list[str]:
    """The C compiler's command: $CC, else the first of cc, gcc and clang. Raises UserError where there is none."""
    if given := os.environ.get("CC"):
        command = shlex.split(given)
        if command and shutil.which(command[0]):
            return command
        raise UserError(f"CC={given}: no such compiler; set CC to one that is installed, or unset it")
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise UserError(
        "the C target needs a C compiler to run, and there is neither cc, gcc nor clang: install one (Debian: apt-get "
        "install gcc) or set CC; without one, mz eval --target emulator gives the same integers, and mz compile "
        "--verify --emit onnx leaves the C code out"
    )


def build(files: Mapping[str, bytes], flags: Sequence[str] = ()) -> Path:
    """A shared library of all C files but main.c, with $CFLAGS. What was built before in this process is taken again.

    Raises UserError with the compiler's own words where it refuses.
    """
    own = shlex.split(os.environ.get("CFLAGS", ""))
    command = [*compiler(), *FLAGS, *_tuning(tuple(compiler())), *own, *flags]
    folder = _folder()
    included = {name: content for name, content in files.items() if not name.endswith(".c")}
    sources = [name for name in sorted(files) if name.endswith(".c") and name != "main.c"]
    place = folder / _digest([name.encode() + included[name] for name in sorted(included)])
    place.mkdir(exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    seen = [name for name in sorted(included) if name.startswith("mz") and name.endswith(".h")]

    def compiled(name: str) -> Path:
        read = seen if name.startswith("mz_") else sorted(included)
        key = _digest([" ".join(command).encode(), files[name], *(included[header] for header in read)])
        target = folder / f"{key}.o"
        if not target.exists():
            _call([*command, "-c", str(place / name), "-o", str(target)])
        return target

    objects = side_by_side(compiled, sources)
    library = folder / f"{_digest([str(target).encode() for target in objects])}.so"
    if not library.exists():
        _call([*command, "-shared", *map(str, objects), "-o", str(library)])
    return library


def _digest(parts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        reason = lines[0] if lines else f"exit code {done.returncode}"
        raise UserError(f"{command[0]} cannot build the native target: {reason}")


@functools.cache
def _tuning(command: tuple[str, ...]) -> tuple[str, ...]:
    """-march=native where the compiler takes it: the machine that builds is the one that runs."""
    with tempfile.TemporaryDirectory(prefix="mz-") as folder:
        source = Path(folder) / "empty.c"
        source.write_text("typedef int mz_empty;\n")
        done = subprocess.run(
            [*command, "-march=native", "-c", str(source), "-o", str(source.with_suffix(".o"))],
            capture_output=True,
            check=False,
        )
    return ("-march=native",) if done.returncode == 0 else ()


@functools.cache
def _folder() -> Path:
    """Where this process builds; gone when it ends."""
    folder = tempfile.mkdtemp(prefix="mz-native-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)

"""The C target as a whole: the emulator's integers, no warnings, no memory fault, and what its build files do."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests.compiler.c_cases import draw, library, sources
from tests.compiler.test_onnx_emitter import images, quantized
from tests.emulator.strategies import CASES

from mz.compiler.emitters.c99 import emit
from mz.compiler.emitters.c99.text import c_name, unique_c_names
from mz.emulator import NumpySession
from mz.engines.native import open_native
from mz.graph import Activation, GlobalAvgPool, Graph, Input, Quantization, Reshape, TensorQuant

NAME = "every-thing"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wvla", "-Werror")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
X86 = platform.machine() in ("x86_64", "AMD64")
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def run(*command: str, cwd: Path, **more) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(folder: Path, program: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """What the example program prints for every image."""
    (folder / "images.f32").write_bytes(feeds["x"].tobytes())
    lines = run(program, "images.f32", cwd=folder).splitlines()
    assert all(line.startswith("fc2: ") for line in lines)
    return np.array([line.split()[1:] for line in lines], int)


@pytest.mark.parametrize("precision", ["a8_w8", "a4_w4", "a16_w16"])
def test_a_network_of_every_kind_gives_the_emulators_integers(precision):
    graph, params, quantization = quantized(precision)
    session = open_native(emit(NAME, graph, params, quantization), NAME, threads=2, flags=("-O1",))
    fresh = images(9, seed=2)
    expected = NumpySession(graph, params, quantization).run(fresh)
    found = session.run(fresh)
    assert set(found) == set(expected) == {"fc2"}
    np.testing.assert_array_equal(found["fc2"], expected["fc2"])
    assert len(np.unique(expected["fc2"])) > 5


def test_the_same_network_gives_the_same_bytes():
    first, second = (emit(NAME, *quantized("a8_w4"), {"mz_version": "1"}) for _ in range(2))
    assert first == second
    assert b"mz_version 1" in first["README.txt"]
    assert not any(b"@" in content for name, content in first.items() if name != "Makefile")


def test_names_become_identifiers():
    assert c_name("3-net.v1") == "n3_net_v1"
    assert list(unique_c_names(["a/b", "a.b", "a_b"]).values()) == ["a_b", "a_b_2", "a_b_3"]


def with_a_view():
    """A reshape that moves nothing, between a mean and an activation."""
    tensor, other = TensorQuant(np.float32(0.1), 3, 8), TensorQuant(np.float32(0.1), 4, 8)
    layers = (
        Input(name="x", inputs=(), shape=(3, 4, 4)),
        GlobalAvgPool(name="mean", inputs=("x",), shape=(3, 1, 1)),
        Reshape(name="flat", inputs=("mean",), shape=(3,)),
        Activation(name="fc2", inputs=("flat",), shape=(3,), function="sigmoid"),
    )
    tensors = {"x": tensor, "mean": other, "flat": other, "fc2": tensor}
    return Graph("view", layers, ("fc2",)), {}, Quantization(tensors)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("network", [lambda: quantized("a8_w4"), with_a_view], ids=["everything", "view"])
def test_no_warnings(compiler, network, tmp_path):
    files = emit(NAME, *network())
    assert (b"mz_move_run" in files[f"{NAME}.c"]) == (network is not with_a_view)
    folder = write(tmp_path, files)
    units = sorted(path.name for path in folder.glob("*.c"))
    run(compiler, "-std=c99", "-O1", *WARNINGS, "-c", *units, cwd=folder)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_makefiles_example_prints_the_emulators_integers(tmp_path):
    graph, params, quantization = quantized("a8_w8")
    folder = write(tmp_path, emit(NAME, graph, params, quantization))
    run("make", "-j2", "CFLAGS=-O1", cwd=folder)
    fresh = images(3, seed=2)
    expected = NumpySession(graph, params, quantization).run(fresh)["fc2"]
    np.testing.assert_array_equal(example(folder, f"./{NAME}", fresh), expected)
    stored = NumpySession(graph, params, quantization, taps=["x"]).run(fresh)["x"]
    (folder / "images.u8").write_bytes(stored.transpose(0, 2, 3, 1).astype(np.uint8).tobytes())
    lines = run(f"./{NAME}", "-q", "images.u8", cwd=folder).splitlines()
    np.testing.assert_array_equal([[int(one) for one in line.split()[1:]] for line in lines], expected)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cmake"), reason="needs CMake")
def test_cmake_builds_it(tmp_path):
    graph, params, quantization = quantized("a8_w8")
    folder = write(tmp_path, emit(NAME, graph, params, quantization))
    run("cmake", "-B", "build", cwd=folder)
    run("cmake", "--build", "build", cwd=folder)
    fresh = images(3, seed=2)
    expected = NumpySession(graph, params, quantization).run(fresh)["fc2"]
    np.testing.assert_array_equal(example(folder, "build/every_thing_example", fresh), expected)


def runs_with(compiler: str, flags: tuple[str, ...], folder: Path) -> bool:
    """Whether this machine builds and runs a program with this compiler and these flags."""
    (folder / "empty.c").write_text('#include <stdio.h>\nint main(void) { return printf(""); }\n')
    command = [compiler, *flags, "empty.c", "-o", "empty"]
    built = subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    return built and subprocess.run(["./empty"], cwd=folder, capture_output=True, check=False).returncode == 0


SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
IN_32_BITS = ("-m32", "-msse2", "-mfpmath=sse")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["a8_w8", "a8_w4", "a4_w4", "a16_w8", "a16_w16"])
@pytest.mark.parametrize(
    "flags", [SANITIZED, (*SANITIZED, "-march=native"), IN_32_BITS, (*IN_32_BITS, *SANITIZED)], ids=" ".join
)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_sanitizers_and_32_bits(compiler, flags, precision, tmp_path):
    if not runs_with(compiler, flags, tmp_path):
        pytest.skip(f"no {compiler} {' '.join(flags)} here")
    graph, params, quantization = quantized(precision)
    folder = write(tmp_path, emit(NAME, graph, params, quantization))
    units = sorted(path.name for path in folder.glob("*.c") if path.name != "empty.c")
    run(compiler, "-std=c99", "-O2", "-ffp-contract=off", *flags, *units, "-o", "program", cwd=folder)
    fresh = images(4, seed=2)
    expected = NumpySession(graph, params, quantization).run(fresh)["fc2"]
    np.testing.assert_array_equal(example(folder, "./program", fresh), expected)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("kind", CASES)
def test_no_layer_leaves_its_arena(compiler, kind, tmp_path):
    """Each network in an arena that is exactly as large as it says, under sanitizers."""
    if not runs_with(compiler, SANITIZED, tmp_path):
        pytest.skip("no sanitizers here")
    cases = draw(kind, 60)
    folder = write(tmp_path, sources(cases))
    models = ", ".join(f"&case{index}_model" for index in range(len(cases)))
    (folder / "arenas.c").write_text(
        "#include <stdlib.h>\n#include <string.h>\n"
        + "".join(f'#include "case{index}.h"\n' for index in range(len(cases)))
        + f"static const mz_model *const models[] = {{{models}}};\n"
        "int main(void)\n{\n    size_t i;\n    int32_t k, n;\n"
        "    for (i = 0; i < sizeof models / sizeof *models; i++) {\n"
        "        unsigned char *arena = malloc((size_t)models[i]->arena_bytes);\n"
        "        memset(arena, 0, (size_t)models[i]->arena_bytes);\n"
        "        for (k = 0; k < models[i]->input_count; k++) {\n"
        "            const mz_tensor *x = &models[i]->inputs[k];\n"
        "            for (n = 0; n < mz_bytes(x); n++)\n"
        "                arena[x->offset + n] = (unsigned char)(rand() & (x->bits == 4 ? 15 : 255));\n"
        "        }\n        models[i]->run(arena);\n        free(arena);\n    }\n    return 0;\n}\n"
    )
    units = [path.name for path in folder.glob("*.c") if path.name not in ("empty.c", "main.c")]
    run(compiler, "-std=c99", "-O1", "-march=native", *SANITIZED, *units, "-o", "arenas", cwd=folder)
    run("./arenas", cwd=folder)


@pytest.mark.skipif(not X86, reason="x86 only")
def test_387_arithmetic_is_refused(tmp_path):
    folder = write(tmp_path, emit(NAME, *quantized("a8_w8")))
    (folder / "headers.c").write_text("#include <stdint.h>\n#include <string.h>\n")

    def check(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["cc", "-std=c99", "-fsyntax-only", "-m32", *command],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip

    if check("headers.c").returncode:
        pytest.skip("the compiler has no headers for 32 bits")
    assert "-mfpmath=sse" in check("-mno-sse", "-mfpmath=387", "mz_tensor.c").stderr


@pytest.mark.skipif(not X86, reason="x86 only")
def test_another_rounding_is_noticed():
    path = library(draw("reshape", 1), ("-O1",))
    built, c = ctypes.CDLL(str(path)), ctypes.CDLL(None)
    built.mz_check.restype = ctypes.c_char_p
    assert built.mz_check() is None
    upward, nearest = 0x800, 0
    c.fesetround(upward)
    try:
        fault = built.mz_check()
    finally:
        c.fesetround(nearest)
    assert fault is not None and b"rounding mode" in fault

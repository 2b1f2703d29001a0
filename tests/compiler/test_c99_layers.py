"""Every layer kind and precision in C == the numpy emulator, in every form of the innermost step that runs here."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.compiler.c_cases import draw, large_products, library, sessions
from tests.emulator.strategies import CASES

from mz.compiler.emitters.c99 import LOWERINGS
from mz.emulator import NumpySession
from mz.emulator.kernels import KERNELS
from mz.errors import UserError

X86 = platform.machine() in ("x86_64", "AMD64")
FORMS = {
    "native": (),
    "avx2": ("-march=haswell",),
    "sse2": ("-march=x86-64",),
    "plain": ("-DMZ_PLAIN",),
    "32 bits": ("-m32", "-march=x86-64", "-msse2", "-mfpmath=sse"),
}
pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


def test_every_kind_has_a_c_lowering():
    assert set(LOWERINGS) == set(KERNELS)


def check(cases, flags) -> None:
    path = library(cases, flags)
    for case, session in zip(cases, sessions(path, len(cases)), strict=True):
        expected = NumpySession(case.graph, case.params, case.quantization).run(case.feeds)
        (wanted,), (found,) = expected.values(), session.run(case.feeds).values()
        np.testing.assert_array_equal(found, wanted, err_msg=repr(case))


def test_a_few_of_every_kind():
    check([case for kind in CASES for case in draw(kind, 25)], ("-O1",))


def test_large_products_of_matrices():
    check(large_products(), ("-O1",))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["native", "avx2", "sse2", "plain"])
@pytest.mark.parametrize("kind", CASES)
def test_every_kind_at_length(kind, form):
    if form in ("avx2", "sse2") and not X86:
        pytest.skip("x86 only")
    if form == "avx2" and not runs_avx2():
        pytest.skip("this processor has no AVX2")
    check(draw(kind, 300) + (large_products() if kind == "matmul" else []), (*FORMS[form], "-O3"))


def runs_avx2() -> bool:
    information = Path("/proc/cpuinfo")
    return information.exists() and "avx2" in information.read_text()


def test_what_the_compiler_refuses_is_told_in_its_words(monkeypatch):
    cases = draw("reshape", 1)
    with pytest.raises(UserError, match=r"cannot build the native target: .*fast-math"):
        library(cases, ("-ffast-math",))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UserError, match="CC=no-such-compiler: no such compiler"):
        library(cases)
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="needs a C compiler"):
        library(cases)

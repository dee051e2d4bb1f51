"""Downloads: checked, resumed, kept; archives that stay in their folder. The publisher is a server in a thread here."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agnostic_ad.nn.data import datasets
from agnostic_ad.nn.data.datasets import DatasetError, Source, cache_folder, download, downloads, extract, fetch, register

CONTENT = np.random.default_rng(0).bytes(3_000_000)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Publisher:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    breaks: list[int] = field(default_factory=list)  # after how many bytes each next answer breaks off
    ranges: bool = True
    tag: str | None = '"one"'
    status: list[int] = field(default_factory=list)  # what the next answers are
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # paths and Range headers
    url: str = ""


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    said = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            said.asked.append((self.path, wanted))
            if said.status:
                self.send_error(said.status.pop(0))
                return
            start = 0
            if wanted and said.ranges and self.headers.get("If-Range") == said.tag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(said.content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(said.content) - 1}/{len(said.content)}")
            else:
                self.send_response(200)
            if said.tag:
                self.send_header("ETag", said.tag)
            self.send_header("Content-Length", str(len(said.content) - start))
            self.end_headers()
            self.wfile.write(said.content[start:][: said.breaks.pop(0) if said.breaks else None])

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    said.url = f"http://127.0.0.1:{server.server_address[1]}/"
    yield said
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.delenv("AGNOSTIC_AD_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_file_comes_once_and_alone(publisher: Publisher, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    assert fetch(publisher.url + "file", path, sha(CONTENT)) == path
    assert path.read_bytes() == CONTENT and [each.name for each in path.parent.iterdir()] == ["file"]
    fetch(publisher.url + "file", path, sha(CONTENT))
    assert publisher.asked == [("/file", None)]
    path.write_bytes(b"other")
    with pytest.raises(DatasetError, match=f"is damaged: it has the SHA-256 {sha(b'other')}, and should have {sha(CONTENT)}"):
        fetch(publisher.url, path, sha(CONTENT))


def test_a_broken_download_goes_on_where_it_was(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks = [1_000_000, 500_000]
    fetch(publisher.url, tmp_path / "file", sha(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [asked for _, asked in publisher.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_goes_on_too(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks = [1_000_000, 1, 1, 1, 1]
    with pytest.raises(DatasetError, match=f"cannot be fetched .it broke off after 1000004 of {len(CONTENT)} bytes"):
        fetch(publisher.url, tmp_path / "file", sha(CONTENT))
    assert not (tmp_path / "file").exists() and (tmp_path / ".file.part").stat().st_size == 1_000_004
    publisher.asked.clear()
    fetch(publisher.url, tmp_path / "file", sha(CONTENT))
    assert publisher.asked == [("/", "bytes=1000004-")] and (tmp_path / "file").read_bytes() == CONTENT
    assert sorted(each.name for each in tmp_path.iterdir() if "file" in each.name) == ["file"]


@pytest.mark.parametrize("change", ["no ranges", "new tag", "no tag"])
def test_what_cannot_be_gone_on_from_starts_again(publisher: Publisher, tmp_path: Path, change: str) -> None:
    publisher.breaks = [1_000_000, 0, 0, 0, 0]
    publisher.tag = None if change == "no tag" else '"one"'
    with pytest.raises(DatasetError, match="broke off"):
        fetch(publisher.url, tmp_path / "file", sha(CONTENT))
    publisher.ranges, publisher.tag = change != "no ranges", '"two"'
    publisher.content = CONTENT[::-1]
    fetch(publisher.url, tmp_path / "file", sha(CONTENT[::-1]))
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


def test_a_beginning_of_another_file_is_noticed(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(DatasetError, match="broke off"):
        fetch(publisher.url, tmp_path / "file", sha(CONTENT))
    with open(tmp_path / ".file.part", "r+b") as part:
        part.write(b"????")
    fetch(publisher.url, tmp_path / "file", sha(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT and publisher.asked[-1] == ("/", None)


def test_a_tampered_file_is_refused_with_both_hashes(publisher: Publisher, tmp_path: Path) -> None:
    publisher.content = b"tampered"
    with pytest.raises(
        DatasetError, match=f"is damaged: it has the SHA-256 {sha(b'tampered')}, and should have {sha(CONTENT)}. It is refused"
    ):
        fetch(publisher.url, tmp_path / "file", sha(CONTENT))
    assert not [each for each in tmp_path.iterdir() if "file" in each.name]


def test_what_a_packed_file_holds_counts(publisher: Publisher, tmp_path: Path) -> None:
    publisher.content = gzip.compress(b"content", 1)
    fetch(publisher.url, tmp_path / "a.gz", sha(b"content"), unpacked=True)
    publisher.content = gzip.compress(b"content")[:-9]
    with pytest.raises(DatasetError, match="is damaged: Compressed file ended"):
        fetch(publisher.url, tmp_path / "b.gz", sha(b"content"), unpacked=True)


def test_other_places_are_tried(publisher: Publisher, tmp_path: Path) -> None:
    publisher.status = [404]
    fetch([publisher.url + "gone", publisher.url + "here"], tmp_path / "file", sha(CONTENT))
    assert [path for path, _ in publisher.asked] == ["/gone", "/here"]
    publisher.status = [503, 503]
    fetch(publisher.url, tmp_path / "again", sha(CONTENT))
    publisher.status = [404, 404]
    with pytest.raises(DatasetError, match=r"/a cannot be fetched .*404.*; .*/b cannot be fetched"):
        fetch([publisher.url + "a", publisher.url + "b"], tmp_path / "none")
    with pytest.raises(DatasetError, match="its scheme is not one of http, https, file"):
        fetch("gopher://old/file", tmp_path / "none")


def test_offline(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNOSTIC_AD_OFFLINE", "1")
    with pytest.raises(DatasetError, match=r"AGNOSTIC_AD_OFFLINE is set. Put the file at .*file"):
        fetch(publisher.url, tmp_path / "file")
    assert publisher.asked == []
    (tmp_path / "file").write_bytes(CONTENT)
    assert fetch(publisher.url, tmp_path / "file", sha(CONTENT)).is_file()


def test_progress(publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(publisher.url, tmp_path / "file")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("downloading file: ") and lines[-1] == "downloading file: 100 %" and len(lines) <= 10
    fetch(publisher.url, tmp_path / "silent", progress=False)
    assert capsys.readouterr().err == ""
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch(publisher.url, tmp_path / "bar")
    said = capsys.readouterr().err
    assert "downloading bar" in said and "3.0/3.0 MB" in said
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    fetch(publisher.url, tmp_path / "plain")
    assert "downloading plain: 100 %" in capsys.readouterr().err


def test_several_at_once_do_not_disturb_each_other(publisher: Publisher, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def get() -> None:
        try:
            fetch(publisher.url, tmp_path / "file", sha(CONTENT), progress=False)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and (tmp_path / "file").read_bytes() == CONTENT and len(publisher.asked) == 1


# --- the registry ---
def test_a_source_of_ones_own(publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no dataset 'mine'; there are cifar10, cifar100, fashion-mnist, kmnist, mnist"):
        download("mine")
    try:
        register(Source("mine", "Mine", (publisher.url,), {"a.zip": sha(CONTENT), "b": sha(b"content")}))
        publisher.content = CONTENT
        (tmp_path / "share" / "datasets" / "mine").mkdir(parents=True)
        (tmp_path / "share" / "datasets" / "mine" / "b").write_bytes(b"content")
        found = download("mine")
        assert found["a.zip"] == cache_folder() / "mine" / "a.zip" and found["a.zip"].read_bytes() == CONTENT
        assert found["b"] == tmp_path / "share" / "datasets" / "mine" / "b"
        found["a.zip"].write_bytes(b"other")
        with pytest.raises(DatasetError, match=f"{sha(b'other')}, and should have {sha(CONTENT)}. Delete it"):
            download("mine")
    finally:
        datasets.registry._SOURCES.pop("mine")
    assert all(len(digest) == 64 for source in datasets.sources().values() for digest in source.digests.values())


# --- archives ---
def zipped(path: Path, *members: tuple[str, bytes], link: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if link:
                info.external_attr = 0o120777 << 16
            with pytest.warns(UserWarning) if name in file.namelist() else threading.Lock():
                file.writestr(info, content)
    return path


def taped(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("make", [zipped, taped])
def test_archives(tmp_path: Path, make: Any) -> None:
    archive = make(tmp_path / "archive", ("a/b.txt", b"b"), ("c.txt", b"c"))
    folder = extract(archive, tmp_path / "out" / "all")
    assert (folder / "a" / "b.txt").read_bytes() == b"b" and (folder / "c.txt").read_bytes() == b"c"
    archive.unlink()
    assert extract(archive, folder) == folder
    assert [each.name for each in folder.parent.iterdir()] == ["all"]


CLIMBING = ["../out.txt", "a/../../out.txt", "/etc/out.txt", "C:/out.txt", "..\\out.txt", "\\out.txt", "C:out.txt"]


@pytest.mark.parametrize("make", [zipped, taped])
@pytest.mark.parametrize("name", CLIMBING)
def test_archives_that_climb_out_are_refused(tmp_path: Path, make: Any, name: str) -> None:
    archive = make(tmp_path / "archive", ("good.txt", b"good"), (name, b"bad"))
    with pytest.raises(DatasetError, match="leads out of its folder; the archive is refused"):
        extract(archive, tmp_path / "out" / "all")
    assert list((tmp_path / "out").iterdir()) == [] and not (tmp_path / "out.txt").exists()


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for archive, text in [
        (zipped(tmp_path / "a", ("link", b"/etc/passwd"), link=True), "'link' is a link, not a file or folder"),
        (taped(tmp_path / "b", ("link", b""), kind=tarfile.SYMTYPE), "'link' is a link"),
        (taped(tmp_path / "c", ("link", b""), kind=tarfile.LNKTYPE), "'link' is a link"),
        (taped(tmp_path / "d", ("pipe", b""), kind=tarfile.FIFOTYPE), "'pipe' is a device"),
        (taped(tmp_path / "e", ("twice", b"1"), ("twice", b"2")), "two of its members have the path twice"),
        (zipped(tmp_path / "f", ("twice", b"1"), ("twice", b"2")), "two of its members have the path twice"),
    ]:
        with pytest.raises(DatasetError, match=text):
            extract(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [zipped, taped])
def test_damaged_archives_are_refused(tmp_path: Path, make: Any) -> None:
    archive = make(tmp_path / "archive", ("a", CONTENT[:50_000]), ("b", CONTENT[:50_000]))
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:40_000] + b"????" + whole[40_004:], b"no archive", b""):
        archive.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"archive is damaged, or no archive of a known kind"):
            extract(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"content"))
    assert downloads.digest(tmp_path / "a.gz", unpacked=True) == sha(b"content")
    assert downloads.digest(tmp_path / "a.gz") == sha((tmp_path / "a.gz").read_bytes())

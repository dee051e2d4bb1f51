"""Files from the network: checked, resumed, kept; and archives unpacked without leaving their folder."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from agnostic_ad.nn.data.dataset import DatasetError

__all__ = ["cache_folder", "check", "digest", "extract", "fetch", "offline"]

_BLOCK = 1 << 18
_TRIES = 5
_UNPACKING = (OSError, EOFError, zlib.error)


def cache_folder() -> Path:
    """Give the folder that downloads are kept in: ``agnostic_ad`` in ``XDG_CACHE_HOME``, or else in ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agnostic_ad"


def offline() -> bool:
    """Tell whether nothing may be fetched: whether ``AGNOSTIC_AD_OFFLINE`` is set in the environment, to other than 0."""
    return os.environ.get("AGNOSTIC_AD_OFFLINE", "0") not in ("", "0")


def digest(path: str | os.PathLike[str], unpacked: bool = False) -> str:
    """Give the SHA-256 of a file, in hexadecimal.

    Parameters
    ----------
    path : path
        The file.
    unpacked : bool
        Whether to take what a gzip file holds, which does not change when it is packed again.

    Raises
    ------
    DatasetError
        If it is no whole gzip file.
    """
    found = hashlib.sha256()
    with open(path, "rb") as file, gzip.GzipFile(fileobj=file) if unpacked else file as content:
        try:
            while block := content.read(_BLOCK):
                found.update(block)
        except _UNPACKING as error:
            raise DatasetError(f"{path} is damaged: {error}") from None
    return found.hexdigest()


def check(path: str | os.PathLike[str], sha256: str, unpacked: bool = False, where: str | None = None) -> None:
    """Refuse a file whose SHA-256 is another than expected; the error names both."""
    found = digest(path, unpacked)
    if found != sha256:
        raise DatasetError(
            f"{where or path} is damaged: {'what it holds' if unpacked else 'it'} has the SHA-256 {found}, and should have {sha256}"
        )


def fetch(
    urls: str | Sequence[str], path: str | os.PathLike[str], sha256: str | None = None, *, unpacked: bool = False, progress: bool = True
) -> Path:
    """Download a file, unless it is there; it appears under its name whole and checked, or not at all.

    What a broken connection has brought is kept beside it (``.part``), and gone on from, in this call or a later one, if the publisher
    still has the same file.

    Parameters
    ----------
    urls : str or sequence of str
        Where the file is, and where else if the first has it not or another one.
    path : path
        Where to put it.
    sha256 : str, optional
        What is expected; a file that is already there is checked too.
    unpacked : bool
        Whether ``sha256`` is that of what a gzip file holds.
    progress : bool
        Whether to show how far it is, on standard error: a bar if rich is installed and a terminal is there, else lines.

    Returns
    -------
    Path
        The file's path.

    Raises
    ------
    DatasetError
        If it cannot be fetched, or is another than expected.
    """
    path = Path(path)
    urls = [urls] if isinstance(urls, str) else list(urls)
    if path.is_file():
        if sha256 is not None:
            check(path, sha256, unpacked)
        return path
    if offline():
        raise DatasetError(f"{urls[0]} cannot be fetched: AGNOSTIC_AD_OFFLINE is set. Put the file at {path}, or unset it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{path.parent} cannot be made: {error.strerror}") from None
    failures = []
    for url in urls:
        try:
            _fetch_from(url, path, sha256, unpacked, progress)
            return path
        except DatasetError as error:
            failures.append(str(error))
    raise DatasetError("; ".join(failures))


def _fetch_from(url: str, path: Path, sha256: str | None, unpacked: bool, progress: bool) -> None:
    part = path.with_name(f".{path.name}.part")
    note = part.with_name(f"{part.name}.json")
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise DatasetError(f"{url} cannot be fetched: its scheme is not one of http, https, file")
    with _alone(part) as file:
        if path.is_file():  # another process was here first
            return
        for fresh in (False, True):
            resumed = _download(url, file, note, path.name, progress)
            try:
                if sha256 is not None:
                    check(part, sha256, unpacked, where=url)
                break
            except DatasetError as error:
                _restart(file, note)
                if not resumed or fresh:  # what was gone on from may have been of another file: once more from the start
                    raise DatasetError(f"{error}. It is refused.") from None
        file.flush()
        os.fsync(file.fileno())
        if os.name == "nt":
            file.close()  # an open file cannot be renamed there
        part.replace(path)
        note.unlink(missing_ok=True)


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Open a partial file; a second process that wants it waits, where the system has such locks. An empty one does not stay."""
    while True:
        with open(part, "a+b") as file:
            with suppress(ImportError, OSError):
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                mine = os.path.samestat(part.stat(), os.fstat(file.fileno()))
            except FileNotFoundError:
                mine = False
            if not mine:  # another process renamed or deleted it in the meantime
                continue
            try:
                yield file
            finally:
                if not file.closed and not file.seek(0, os.SEEK_END):
                    part.unlink(missing_ok=True)
            return


def _restart(file: IO[bytes], note: Path) -> None:
    file.truncate(0)
    note.unlink(missing_ok=True)


def _download(url: str, file: IO[bytes], note: Path, name: str, progress: bool) -> bool:
    """Bring a partial file to its end; tell whether any of it was there before."""
    resumed = False
    problem: Exception | str = ""
    for _ in range(_TRIES):
        have = file.seek(0, os.SEEK_END)
        same, size = _noted(note, url) if have else (None, None)
        if same is not None and size == have:
            return True
        if have and same is None:
            _restart(file, note)
            have = 0
        request = urllib.request.Request(url, headers={"User-Agent": "agnostic_ad", "Accept-Encoding": "identity"})
        if same is not None:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", same)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                if getattr(answer, "status", None) == 206 and _starts(answer.headers.get("Content-Range")) == have:
                    resumed = True
                else:  # the publisher knows no ranges, or has another file now
                    _restart(file, note)
                    have = 0
                    _write_note(note, url, answer.headers)
                length = answer.headers.get("Content-Length")
                total = have + int(length) if length is not None else None
                with _meter(name, total, progress) as advance:
                    advance(have)
                    while block := answer.read(_BLOCK):
                        file.write(block)
                        advance(len(block))
                file.flush()
            if total is None or file.tell() == total:
                return resumed
            problem = f"it broke off after {file.tell()} of {total} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            problem = error
            if error.code == 416:  # what is here is no part of what is there
                _restart(file, note)
            elif error.code < 500:
                break
        except (OSError, ValueError, http.client.HTTPException) as error:
            file.flush()
            problem = error
            if isinstance(error, urllib.error.URLError) and not isinstance(error.reason, TimeoutError):
                break  # no such host, no such file, nobody who listens
    raise DatasetError(f"{url} cannot be fetched ({problem})")


def _noted(note: Path, url: str) -> tuple[str | None, int | None]:
    """Give what identified the publisher's file when its beginning came, and its size; None where that is not known."""
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        return (str(said["same"]), said["size"]) if said["url"] == url else (None, None)
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _write_note(note: Path, url: str, headers: Any) -> None:
    tag = headers.get("ETag")
    same = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")  # a weak tag does not speak of bytes (RFC 9110, 8.8.1)
    if same:
        length = headers.get("Content-Length")
        note.write_text(json.dumps({"url": url, "same": same, "size": int(length) if length else None}), encoding="utf-8")


def _starts(content_range: str | None) -> int | None:
    """Read the beginning out of ``bytes 100-199/200``."""
    unit, _, rest = (content_range or "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdigit() else None


@contextmanager
def _meter(name: str, total: int | None, progress: bool) -> Iterator[Callable[[int], None]]:
    """Show how much has come; the function that it gives is told of each block."""
    if not progress:
        yield lambda size: None
        return
    if sys.stderr.isatty():
        with suppress(ImportError):
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            with Progress(*columns, console=Console(stderr=True)) as bar:
                task = bar.add_task(f"downloading {name}", total=total)
                yield lambda size: bar.advance(task, size)
            return
    done = shown = 0

    def advance(size: int) -> None:
        nonlocal done, shown
        done += size
        tenth = 10 * done // total if total else done >> 24  # a line for each tenth, or for each 16 MiB
        if tenth > shown:
            shown = tenth
            share = f"{10 * tenth} %" if total else f"{done >> 20} MiB"
            print(f"downloading {name}: {share}", file=sys.stderr, flush=True)

    yield advance


def extract(archive: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Unpack a zip or tar archive (packed or not) into a folder, which appears whole or not at all.

    Parameters
    ----------
    archive : path
        The archive.
    folder : path
        Where its contents go; if it exists, nothing is done.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DatasetError
        If the archive is damaged, or a member has an absolute path, a path with ``..``, the path of another member, or is a link or a
        device. Nothing is kept of it then.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as below:
        room = Path(below) / "whole"
        room.mkdir()
        try:
            for name, kind, read in _members(archive):
                target = room / _inside(archive, name, kind)
                if kind == "folder":
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with read() as source, open(target, "xb") as out:
                    shutil.copyfileobj(source, out, _BLOCK)
        except FileExistsError as error:
            raise DatasetError(f"{archive}: two of its members have the path {Path(error.filename).relative_to(room)}") from None
        except (*_UNPACKING, zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError) as error:
            if isinstance(error, DatasetError):
                raise
            raise DatasetError(f"{archive} is damaged, or no archive of a known kind: {error}") from None
        try:
            room.replace(folder)
        except OSError:
            if not folder.is_dir():  # else another process was here first
                raise
    return folder


def _members(archive: Path) -> Iterator[tuple[str, str, Callable[[], IO[bytes]]]]:
    """Yield the path, the kind and a way to read of each member of an archive."""
    with open(archive, "rb") as file:
        start = file.read(4)
    if start in (b"PK\3\4", b"PK\5\6"):
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                mode = member.external_attr >> 16
                kind = "link" if stat.S_ISLNK(mode) else "folder" if member.is_dir() else "file"
                yield member.orig_filename, kind, lambda member=member: packed.open(member)  # type: ignore[misc]
        return
    with tarfile.open(archive, "r:*") as tape:
        for entry in tape:
            kind = "link" if entry.issym() or entry.islnk() else "folder" if entry.isdir() else "file" if entry.isfile() else "device"
            yield entry.name, kind, lambda entry=entry: tape.extractfile(entry)  # type: ignore[misc]
        while tape.fileobj.read(_BLOCK):  # to the end, where the checksum of a packed archive stands
            pass


def _inside(archive: Path, name: str, kind: str) -> Path:
    """Give a member's path, which stays inside on each system; refuse any other."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or PureWindowsPath(name).drive or ".." in parts or "\0" in name:
        raise DatasetError(f"{archive}: the path {name!r} leads out of its folder; the archive is refused")
    if kind in ("link", "device"):
        raise DatasetError(f"{archive}: {name!r} is a {kind}, not a file or folder; the archive is refused")
    return Path(*parts)

"""Fetching a published dataset into the cache: more than one mirror, every file checked."""

import contextlib
import gzip
import hashlib
import http.client
import os
import queue
import threading
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import platformdirs
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from digitwise.data.catalog import CatalogEntry, PublishedFile
from digitwise.errors import DigitwiseError
from digitwise.messages import say, stderr_console
from digitwise.storage import open_whole, sweep_unfinished, unfinished

OFFLINE_AFTER = 5.0  # seconds in all without an answer from any mirror
STALLED_AFTER = 10.0  # seconds without a byte from a mirror that had answered
_ROUNDS = 2  # how often each mirror is tried for a file
_LARGEST_FILE = 512 * 1024 * 1024
_CHUNK = 64 * 1024


class UnavailableError(DigitwiseError):
    """No mirror could be reached, or none has the files."""


class _MirrorError(Exception):
    """One mirror did not deliver; another may."""


class _NoFileError(_MirrorError):
    """A mirror could not be reached, or does not have the file."""


def cache_folder() -> Path:
    """Returns the folder of fetched datasets: DIGITWISE_CACHE, else the system's own place."""
    named = os.environ.get("DIGITWISE_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("digitwise"))


def fetched(entry: CatalogEntry) -> bool:
    """Tells whether all files of a dataset lie in the cache, with the right digests."""
    return all(is_right(cache_folder() / entry.name / file.name, file) for file in entry.files)


def mirrors(entry: CatalogEntry) -> tuple[str, ...]:
    """Lists where a dataset is looked for.

    The environment variable DIGITWISE_MIRROR takes the place of the published addresses: it
    names an address below which each dataset has a folder, as DIGITWISE_DATA does on disk.
    """
    own = os.environ.get("DIGITWISE_MIRROR")
    return (f"{own.rstrip('/')}/{entry.name}/",) if own else entry.mirrors


def fetch(entry: CatalogEntry) -> Path:
    """Downloads a dataset's files that the cache lacks or has damaged.

    Each file is written under a temporary name and takes its own once it is whole and its digest
    is right, so that two processes may fetch at once. Shows progress on a terminal.

    Args:
        entry: the dataset.

    Returns:
        The folder in the cache that contains its files.

    Raises:
        UnavailableError: no mirror answered within 5 seconds in all.
        DigitwiseError: the mirrors answered, but none delivered the right bytes.
        MachineError: the disk is full or permission is missing.
    """
    folder = cache_folder() / entry.name
    if not _downloads_under_way(folder):
        sweep_unfinished(folder)
    missing = [file for file in entry.files if not is_right(folder / file.name, file)]
    for file in missing:
        if (folder / file.name).exists():
            say(f"{folder / file.name}: damaged in the cache, fetched anew")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    contact = _Contact()
    with Progress(*columns, TransferSpeedColumn(), console=stderr_console()) as progress:
        for file in missing:
            _fetch_file(entry, file, folder / file.name, progress, contact)
    if missing and not entry.is_idx:
        _verify(entry, folder)
    return folder


def _verify(entry: CatalogEntry, folder: Path) -> None:
    """Delete files without digests of their own if their arrays are not the published ones."""
    from digitwise.data.uci import read_published  # slow to import

    try:
        read_published(entry, folder)
    except DigitwiseError as error:
        for file in entry.files:
            (folder / file.name).unlink(missing_ok=True)
        raise DigitwiseError(
            f"{mirrors(entry)[0]}: {error}; nothing was kept: try later, or name a folder that has "
            f"{entry.name} in DIGITWISE_DATA"
        ) from error


def _downloads_under_way(folder: Path) -> bool:
    """Tells whether another process may be fetching: it wrote within the last minute."""
    recent = time.time() - 60
    for file in unfinished(folder):
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime > recent:
                return True
    return False


class _Contact:
    """Keeps the time for which no mirror has answered yet.

    Attributes:
        made: whether any mirror has answered.
    """

    def __init__(self) -> None:
        self.made = False
        self._deadline = time.monotonic() + OFFLINE_AFTER

    def patience(self, mirrors_left: int) -> float:
        """Returns for how many seconds the next mirror may keep us waiting."""
        if self.made:
            return STALLED_AFTER
        return max(0.0, self._deadline - time.monotonic()) / max(1, mirrors_left)


def _fetch_file(
    entry: CatalogEntry,
    file: PublishedFile,
    target: Path,
    progress: Progress,
    contact: _Contact,
) -> None:
    """Downloads one file from the first mirror that delivers it right."""
    faults: list[tuple[str, _MirrorError]] = []
    addresses = mirrors(entry)
    for _ in range(_ROUNDS):
        for number, mirror in enumerate(addresses):
            url = mirror + file.name
            task = progress.add_task(file.name, total=None)
            try:
                _fetch_from(url, file, target, progress, task, contact, len(addresses) - number)
            except _MirrorError as error:
                faults.append((url, error))
                progress.remove_task(task)
            else:
                return
        if not contact.made:
            break
    if all(isinstance(error, _NoFileError) for _, error in faults):
        url, error = faults[0]
        raise UnavailableError(
            f"{entry.name} could not be downloaded ({url}: {error}): "
            "connect to the network, or name a folder that has it by DIGITWISE_DATA or --data"
        )
    for url, error in faults[:-1]:
        say(f"{url}: {error}")
    url, error = faults[-1]
    raise DigitwiseError(
        f"{url}: {error}; nothing was kept: try later, or name "
        "a folder that has it by DIGITWISE_DATA or --data"
    )


def _fetch_from(
    url: str,
    file: PublishedFile,
    target: Path,
    progress: Progress,
    task: TaskID,
    contact: _Contact,
    mirrors_left: int,
) -> None:
    """Downloads one file from one mirror, and keeps it if it is right."""
    with _open(url, contact, mirrors_left) as answer:
        announced = int(answer.headers.get("Content-Length") or 0) or None
        progress.update(task, total=announced)
        with open_whole(target, force=True) as written:  # in the cache, which is ours
            received = 0
            while chunk := _read(answer):
                received += len(chunk)
                if received > _LARGEST_FILE:
                    raise _MirrorError("sent more than any dataset's file holds")
                written.write(chunk)
                progress.update(task, completed=received)
            if announced is not None and received < announced:
                raise _MirrorError(f"cut off after {received:,} of {announced:,} bytes")
            written.flush()
            if not is_right(Path(written.name), file):
                raise _MirrorError("sent bytes whose digest is not the published one")


def _open(url: str, contact: _Contact, mirrors_left: int) -> http.client.HTTPResponse:
    """Opens an address, giving up when patience ends, name lookup included."""
    patience = contact.patience(mirrors_left)
    if not url.startswith(("http://", "https://")):
        raise DigitwiseError(f"{url}: a mirror's address begins with http:// or https://")
    answers: queue.Queue[http.client.HTTPResponse | Exception] = queue.Queue(1)

    def connect() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=STALLED_AFTER))
        except Exception as error:  # whatever it was, the caller decides
            answers.put(error)

    # A name lookup takes no timeout of its own, so it is left behind in a thread.
    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=patience)
    except queue.Empty:
        raise _NoFileError(f"no answer in {patience:.1f} s") from None
    contact.made = contact.made or not _is_unreachable(answer)
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        raise _NoFileError(f"answered {answer.code} {answer.reason}")
    if isinstance(answer, Exception):
        raise _NoFileError(str(getattr(answer, "reason", answer)))
    return answer


def _is_unreachable(answer: http.client.HTTPResponse | Exception) -> bool:
    """Tells a mirror that could not be reached from one that answered, if only with a refusal."""
    return isinstance(answer, Exception) and not isinstance(answer, urllib.error.HTTPError)


def _read(answer: http.client.HTTPResponse) -> bytes:
    """Reads the next bytes of an answer."""
    try:
        return answer.read(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _MirrorError(f"broke off: {error}") from error


def is_right(path: Path, file: PublishedFile) -> bool:
    """Return whether a file has its published digest, or, if none is published, any contents."""
    if not path.is_file():
        return False
    try:
        if file.sha256 is None and file.gzip_md5 is None:
            return path.stat().st_size > 0
        if file.sha256 is not None:
            with gzip.open(path) as unpacked:
                return hashlib.file_digest(unpacked, "sha256").hexdigest() == file.sha256  # type: ignore[arg-type]
        with path.open("rb") as packed:
            digest = hashlib.file_digest(packed, lambda: hashlib.md5(usedforsecurity=False))
            return digest.hexdigest() == file.gzip_md5
    except (OSError, EOFError, zlib.error):
        return False

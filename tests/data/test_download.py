"""Downloads from mirrors that are slow, cut off, send wrong bytes, or are not there."""

import gzip
import hashlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from digitwise.data import download
from digitwise.data.catalog import CATALOG, CatalogEntry, PublishedFile
from digitwise.data.formats import idx_bytes, read_path
from digitwise.errors import DigitwiseError, MachineError
from tests.conftest import PATIENCE, full_disk

Digits = tuple[np.ndarray, np.ndarray]
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
OFFLINE_AFTER = download.OFFLINE_AFTER  # the default; the fixture below raises it


class Mirror:
    """A local server for four small files, each request answered as the test wants."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[1]
                mirror.requests.append(name)
                answer = mirror.answers.pop(0) if mirror.answers else soundly
                answer(self, mirror.files[name])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


def soundly(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def slowly(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for part in (content[:100], content[100:]):
        handler.wfile.write(part)
        handler.wfile.flush()
        time.sleep(0.2)


def cut_off(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


def wrong_bytes(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    soundly(handler, gzip.compress(b"<html>please log in</html>"))


def not_found(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_error(404)


def silent(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    time.sleep(30)


@pytest.fixture
def entry(digits: Digits) -> CatalogEntry:
    """MNIST's entry with the digests of four small files."""
    x, y = digits
    arrays = (x[:40], y[:40], x[40:50], y[40:50])
    files = tuple(
        PublishedFile(file.name, hashlib.sha256(b"".join(idx_bytes(array))).hexdigest())
        for file, array in zip(CATALOG["mnist"].files, arrays, strict=True)
    )
    return replace(CATALOG["mnist"], files=files)


@pytest.fixture
def mirror(
    entry: CatalogEntry, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mirror]:
    x, y = digits
    arrays = (x[:40], y[:40], x[40:50], y[40:50])
    served = Mirror(
        {
            file.name: gzip.compress(b"".join(idx_bytes(array)))
            for file, array in zip(entry.files, arrays, strict=True)
        }
    )
    monkeypatch.setenv("DIGITWISE_MIRROR", served.address)
    for patience in ("OFFLINE_AFTER", "STALLED_AFTER"):  # a busy machine is slow, not offline
        monkeypatch.setattr(download, patience, float(PATIENCE))
    yield served
    served.server.shutdown()
    served.server.server_close()


def _leftovers() -> list[Path]:
    return [path for path in download.cache_folder().rglob("*") if "unfinished" in path.name]


def test_fetched_files_are_kept_and_not_fetched_again(
    entry: CatalogEntry, mirror: Mirror, digits: Digits
) -> None:
    folder = download.fetch(entry)
    assert (read_path(folder).train.x == digits[0][:40]).all()
    assert download.fetched(entry)
    download.fetch(entry)
    assert len(mirror.requests) == 4


@pytest.mark.parametrize("answer", [slowly, cut_off, wrong_bytes, not_found])
def test_a_mirror_that_fails_once_is_asked_again(
    entry: CatalogEntry, mirror: Mirror, answer: Answer
) -> None:
    mirror.answers = [soundly, answer]
    download.fetch(entry)
    assert download.fetched(entry)
    assert not _leftovers()


@pytest.mark.parametrize(
    ("answer", "words"),
    [(cut_off, "cut off after"), (wrong_bytes, "digest is not the published one")],
)
def test_a_mirror_that_keeps_failing_leaves_nothing_behind(
    entry: CatalogEntry, mirror: Mirror, answer: Answer, words: str
) -> None:
    mirror.answers = [answer] * 9
    with pytest.raises(DigitwiseError, match=words) as caught:
        download.fetch(entry)
    assert not isinstance(caught.value, download.UnavailableError)
    assert mirror.address in str(caught.value)
    assert not list(download.cache_folder().rglob("*.gz"))
    assert not _leftovers()


def test_a_mirror_without_the_files_counts_as_none(entry: CatalogEntry, mirror: Mirror) -> None:
    mirror.answers = [not_found] * 9
    with pytest.raises(download.UnavailableError, match="404"):
        download.fetch(entry)
    assert len(mirror.requests) == 2


def test_the_second_mirror_is_tried_where_the_first_sends_wrong_bytes(
    entry: CatalogEntry, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIGITWISE_MIRROR")
    both = replace(entry, mirrors=(f"{mirror.address}/first/", f"{mirror.address}/second/"))
    mirror.answers = [wrong_bytes]
    download.fetch(both)
    assert len(mirror.requests) == 5


def test_a_mirror_that_never_answers_is_given_up(
    entry: CatalogEntry, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OFFLINE_AFTER <= 5
    monkeypatch.setattr(download, "OFFLINE_AFTER", 0.3)
    mirror.answers = [silent]
    with pytest.raises(download.UnavailableError, match=r"no answer in 0\.3 s"):
        download.fetch(entry)
    assert len(mirror.requests) == 1


def test_a_damaged_file_in_the_cache_is_fetched_anew(
    entry: CatalogEntry, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = download.fetch(entry)
    damaged = folder / entry.files[2].name
    damaged.write_bytes(damaged.read_bytes()[:50])
    (folder / ".unfinished-left-by-a-killed-process-0123456789abcdef").write_bytes(b"x")
    assert not download.fetched(entry)
    download.fetch(entry)
    assert download.fetched(entry)
    assert mirror.requests[4:] == [damaged.name]
    assert "fetched anew" in capsys.readouterr().err


def test_a_full_disk_while_fetching_is_the_machines_refusal(
    entry: CatalogEntry, mirror: Mirror
) -> None:
    with full_disk(), pytest.raises(MachineError, match="File too large"):
        download.fetch(entry)
    assert not _leftovers()


def _fetch_in_a_process(entry: CatalogEntry, barrier: object) -> None:
    download.OFFLINE_AFTER = download.STALLED_AFTER = float(PATIENCE)
    barrier.wait()
    download.fetch(entry)


def test_two_processes_that_fetch_at_once_do_not_spoil_the_cache(
    entry: CatalogEntry, mirror: Mirror
) -> None:
    mirror.answers = [slowly] * 8
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=_fetch_in_a_process, args=(entry, barrier)) for _ in range(2)]
    try:
        for process in both:
            process.start()
        for process in both:
            process.join(PATIENCE)
    finally:
        for process in both:
            process.kill()
    assert [process.exitcode for process in both] == [0, 0]
    assert download.fetched(entry)
    assert not _leftovers()

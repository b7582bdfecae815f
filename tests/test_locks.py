"""Locks: one process or thread at a time works in a folder."""

import errno
import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digitwise.errors import DigitwiseError, MachineError
from digitwise.network.runs import Run
from digitwise.storage import locked
from tests.conftest import running

HOLDER = """
import sys
from pathlib import Path
from digitwise.storage import locked
with locked(Path("lock"), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


def _take(path: Path) -> None:
    with locked(path, "busy"):
        pass


def test_a_lock_held_by_another_process_is_refused_until_that_process_is_killed() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with running([sys.executable, "-c", HOLDER], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DigitwiseError, match="busy"):
            _take(Path("lock"))
        holder.kill()
        holder.wait()
        _take(Path("lock"))


def test_a_lock_excludes_the_other_threads_of_its_process_and_is_released() -> None:
    with ThreadPoolExecutor(1) as pool:
        with locked(Path("lock"), "busy"):
            Path("lock").read_bytes()  # opening and closing the file elsewhere releases nothing
            with pytest.raises(DigitwiseError, match="busy"):
                pool.submit(_take, Path("lock")).result()
        pool.submit(_take, Path("lock")).result()


def test_a_run_is_locked_on_nfs_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flock = fcntl.flock

    def flock_on_nfs(descriptor: int, operation: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_on_nfs)
    (tmp_path / "settings.json").write_text("{}")
    held, refused = Run(tmp_path).locked(), pytest.raises(DigitwiseError, match="another process")
    with held, refused, Run(tmp_path).locked():
        pass
    assert (tmp_path / "settings.json").read_text() == "{}"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    _take(Path("lock"))
    printed = capsys.readouterr().err
    assert "the file system has no locks" in printed
    assert len(printed.splitlines()) == 1


def test_a_folder_without_write_permission_cannot_be_locked(no_permission: Path) -> None:
    with pytest.raises(MachineError, match="Permission denied"):
        _take(no_permission / "lock")

"""Files and folders that are there whole or not at all."""

import contextlib
import errno
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from digitwise.errors import DigitwiseError, MachineError, TakenError, machine_error

_UNFINISHED = ".unfinished-"
_HELD_ELSEWHERE = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # the last two on SMB and Windows
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


def unfinished_name(path: Path) -> Path:
    """Returns a fresh name beside `path`, for what is still being written."""
    return path.with_name(f"{_UNFINISHED}{path.name}-{secrets.token_hex(4)}")


def unfinished(folder: Path) -> list[Path]:
    """Lists what is still being written in `folder`, or was left by a killed writer."""
    return list(folder.glob(f"{_UNFINISHED}*"))


def sweep_unfinished(folder: Path) -> None:
    """Removes from `folder` what writers left that were killed before they finished."""
    for leftover in unfinished(folder):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes its name only when it is written and synced.

    Args:
        path: the file's name; its folder is made where it is missing.

    Raises:
        MachineError: the disk is full or permission is missing; `path` is as it was.
    """
    temporary = unfinished_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise machine_error(f"write {path}", error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `path` by one rename at the end.

    Args:
        path: the folder's name, which nothing may have yet.

    Raises:
        MachineError: the disk is full or permission is missing; nothing is left behind.
    """
    temporary = unfinished_name(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb" if os.name == "posix" else "r+b") as written:
                    os.fsync(written.fileno())
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise TakenError(f"{path} exists: another process made it") from error
            raise
        _sync_folder(path.parent)
    except MachineError as error:  # a file inside: it is the folder that the caller knows
        raise MachineError(f"write {path}", error.reason) from error
    except OSError as error:
        raise machine_error(f"write {path}", error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock that excludes other processes and threads; a killed process releases it.

    Args:
        path: the lock file, which holds nothing else; it is created where it is missing, and stays.
        busy: the message if the lock is held elsewhere.

    Raises:
        DigitwiseError: another process or thread holds the lock.
        MachineError: the lock file cannot be written.
    """
    try:
        file = path.open("ab")  # NFS locks only what is open for writing
    except OSError as error:
        raise machine_error(f"write {path}", error) from error
    with file:
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in _HELD_ELSEWHERE:
                raise DigitwiseError(busy) from None
            if error.errno not in _NO_LOCKS:
                raise machine_error(f"lock {path}", error) from error
            from digitwise.messages import say  # imports rich, which reading does not need

            say(
                f"notice: {path.parent}: the file system has no locks ({error.strerror}): "
                "make sure that no other process uses this folder"
            )
        yield


def _lock(descriptor: int) -> None:
    """Lock an open file without waiting.

    POSIX systems use flock(), whose lock belongs to the open file, so that it also excludes threads
    of this process. A lock by lockf() would not, and would be released by closing the file anywhere
    in the process. On NFS, Linux forwards a flock() to the server if the file is open for writing.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole, in UTF-8.

    Raises:
        MachineError: as `open_whole` does.
    """
    with open_whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes a JSON file whole, indented for people.

    Raises:
        MachineError: as `open_whole` does.
    """
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that `write_json` wrote.

    Raises:
        DigitwiseError: it is damaged.
        MachineError: it may not be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DigitwiseError(f"{path}: damaged: name another folder") from error
    except OSError as error:
        raise machine_error(f"read {path}", error) from error
    if not isinstance(document, dict):
        raise DigitwiseError(f"{path}: damaged: name another folder")
    return document


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` outlast a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files and folders that are there whole or not at all."""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from digitwise.errors import DigitwiseError, MachineError, TakenError, machine_error

_UNFINISHED = ".unfinished-"


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
                with file.open("rb") as written:
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


def hold_lock(file: IO[bytes], busy: str) -> None:
    """Keeps other processes from holding an open file until it is closed; a killed one lets go.

    Args:
        file: what the processes agree on.
        busy: what is said where another process holds it.

    Raises:
        DigitwiseError: another process holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DigitwiseError(busy) from None


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

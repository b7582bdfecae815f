"""Write files and folders atomically, and never over a user's own files."""

import contextlib
import errno
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from digitwise.errors import DigitwiseError, MachineError, TakenError, machine_error
from digitwise.messages import say

MARK = "Written by Digitwise; later runs may replace this file"
LONGEST_NAME = 255  # bytes, in the file systems in common use
_MARKED_ENDS = 16 * 1024  # bytes at each end of a file that are searched for the mark
_UNFINISHED = ".unfinished-"
_NAME_SHOWN = 32  # characters of a file's name in its temporary name
_RANDOM_BYTES = 8
_HELD_ELSEWHERE = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # the last two on SMB and Windows
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)


class _Inputs(NamedTuple):
    """Device and inode numbers of the files and folders that a call reads."""

    files: frozenset[tuple[int, int]]
    folders: frozenset[tuple[int, int]]


_protected: ContextVar[tuple[_Inputs, ...]] = ContextVar("_protected", default=())


@contextlib.contextmanager
def protected(paths: Iterable[str | Path | None]) -> Iterator[None]:
    """Keep a call's inputs from being overwritten while it runs, even with `force`.

    Files are compared by device and inode, so that a link or another spelling of the path makes no
    difference.

    Args:
        paths: files, and folders with everything in them; None and missing paths are ignored.
    """
    files: set[tuple[int, int]] = set()
    folders: set[tuple[int, int]] = set()
    for path in paths:
        with contextlib.suppress(OSError, ValueError, TypeError):
            status = os.stat(path)  # type: ignore[arg-type]
            kept = folders if stat.S_ISDIR(status.st_mode) else files
            kept.add((status.st_dev, status.st_ino))
    token = _protected.set((*_protected.get(), _Inputs(frozenset(files), frozenset(folders))))
    try:
        yield
    finally:
        _protected.reset(token)


def check_output(path: Path, *, force: bool = False) -> None:
    """Refuse to overwrite a file that must be kept.

    Args:
        path: the file's name.
        force: whether a file that Digitwise did not write may be replaced.

    Raises:
        DigitwiseError: `path` is a folder, a device or a protected input; or it is a file without
            `MARK`, and `force` is false.
    """
    try:
        status = path.stat()
    except OSError:
        return  # nothing is there, or writing fails and says why
    if stat.S_ISDIR(status.st_mode):
        raise DigitwiseError(f"{path} is a folder: choose another --output")
    if not stat.S_ISREG(status.st_mode):
        raise DigitwiseError(f"{path} is not a regular file: choose another --output")
    marked = is_marked(path)
    if _is_input(path, status, marked):
        raise DigitwiseError(f"{path} is an input of this call: choose another --output")
    if not marked and not force:
        raise DigitwiseError(
            f"{path} exists: choose another --output, or replace it with --force (force=True in "
            "Python)"
        )


def _is_input(path: Path, status: os.stat_result, marked: bool) -> bool:
    """Return whether a file is an input of the current call, or belongs to one."""
    inputs = _protected.get()
    if any((status.st_dev, status.st_ino) in each.files for each in inputs):
        return True
    if marked or not any(each.folders for each in inputs):
        return False
    folders = [folder.stat() for folder in Path(os.path.realpath(path)).parents]
    keys = {(folder.st_dev, folder.st_ino) for folder in folders}
    return any(keys & each.folders for each in inputs)


def is_marked(path: Path) -> bool:
    """Return whether Digitwise wrote a file for a user, and may therefore replace it."""
    try:
        if not path.is_file():  # opening a named pipe would wait for its writer
            return False
        with path.open("rb") as file:
            head = file.read(_MARKED_ENDS)
            file.seek(max(len(head), file.seek(0, os.SEEK_END) - _MARKED_ENDS))
            return MARK.encode() in head or MARK.encode() in file.read()
    except (OSError, ValueError):
        return False


def image_mark(kind: str) -> dict[str, Any]:
    """Return the options of Pillow's `save` that put `MARK` into an image file.

    Args:
        kind: Pillow's name of the format; formats without room for a mark get none.
    """
    from PIL import Image, PngImagePlugin

    if kind == "PNG":
        chunk = PngImagePlugin.PngInfo()
        chunk.add_text("Software", MARK)
        return {"pnginfo": chunk}
    if kind in ("GIF", "JPEG"):
        return {"comment": MARK.encode()}
    if kind == "TIFF":
        return {"software": MARK}
    if kind == "WEBP":
        exif = Image.Exif()
        exif[0x0131] = MARK  # Software
        return {"exif": exif}
    return {}


def unfinished_name(path: Path) -> Path:
    """Return a unique temporary name in the folder of `path`.

    It contains only the start of the file's own name, which may be as long as the file system
    allows.
    """
    random = secrets.token_hex(_RANDOM_BYTES)
    return path.with_name(f"{_UNFINISHED}{path.name[:_NAME_SHOWN]}-{random}")


def unfinished(folder: Path) -> list[Path]:
    """List temporary files in `folder`, still being written or left by a killed writer."""
    return list(folder.glob(f"{_UNFINISHED}*-" + "[0-9a-f]" * 2 * _RANDOM_BYTES))


def sweep_unfinished(folder: Path) -> None:
    """Removes from `folder` what writers left that were killed before they finished."""
    for leftover in unfinished(folder):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def open_whole(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when it is written and synced.

    Args:
        path: the file's name; its folder is created if it is missing.
        force: whether a file without `MARK` may be replaced, as in a folder that Digitwise made.

    Raises:
        DigitwiseError: as `check_output`.
        MachineError: the disk is full or permission is missing; `path` is as it was.
    """
    check_output(path, force=force)
    target = Path(os.path.realpath(path))  # a link stays a link
    temporary = unfinished_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move_whole(temporary, target, force=force)
        _sync_folder(target.parent)
    except OSError as error:
        raise machine_error(f"write {path}", error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def move_whole(source: Path, target: Path, *, force: bool = False) -> None:
    """Rename a finished file, within one file system.

    Raises:
        DigitwiseError: as `check_output`.
        OSError: it cannot be renamed.
    """
    check_output(target, force=force)
    source.replace(target)


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
        path: the lock file, which holds only `MARK`; it is created if missing, and stays.
        busy: the message if the lock is held elsewhere.

    Raises:
        DigitwiseError: another process or thread holds the lock.
        MachineError: the lock file cannot be written.
    """
    try:
        file = path.open("ab")  # NFS locks only files open for writing
    except OSError as error:
        raise machine_error(f"write {path}", error) from error
    with file:
        try:
            if not file.tell():
                file.write(f"{MARK}\n".encode())
                file.flush()
            _lock(file.fileno())
        except OSError as error:
            if error.errno in _HELD_ELSEWHERE:
                raise DigitwiseError(busy) from None
            if error.errno not in _NO_LOCKS:
                raise machine_error(f"lock {path}", error) from error
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


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a text file atomically, in UTF-8.

    Args:
        path: as for `open_whole`.
        text: what to write; bytes of a file name that are not UTF-8 are escaped; reading them
            from JSON returns the same name.
        force: as for `open_whole`.

    Raises:
        DigitwiseError: as `open_whole`.
        MachineError: likewise.
    """
    with open_whole(path, force=force) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, document: dict[str, Any], *, force: bool = False) -> None:
    """Write a JSON file whole, indented for people.

    Raises:
        DigitwiseError: as `open_whole`.
        MachineError: likewise.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", force=force)


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

"""What is said on the way: one line each, to stderr, so that stdout stays the answer's own."""

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")


def say(text: str) -> None:
    """Print a line to stderr, if it is open."""
    if sys.stderr is not None:  # otherwise print would use stdout
        with contextlib.suppress(BrokenPipeError):
            print(printable(text), file=sys.stderr, flush=True)


def printable(text: object) -> str:
    r"""Return text that can be encoded as UTF-8.

    Bytes of a file name that are not UTF-8, which Python keeps as lone surrogates, are escaped:
    `scan-\xff.png`.
    """
    return re.sub("[\ud800-\udfff]", _escaped, str(text))


def _escaped(surrogate: re.Match[str]) -> str:
    """Escape a lone surrogate, as the byte that it encodes if there is one."""
    number = ord(surrogate[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


@contextlib.contextmanager
def quiet_loggers(*names: str, level: int = logging.ERROR) -> Iterator[None]:
    """Raise the level of other packages' loggers, and restore it afterwards.

    Args:
        names: the loggers' names.
        level: the lowest level that is still logged.
    """
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, restored in zip(loggers, before, strict=True):
            logger.setLevel(restored)


@contextlib.contextmanager
def environment_defaults(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables that the user has not set, and restore all of them afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: values[name] for name, value in before.items() if value is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def stderr_console() -> "Console":
    """Makes the console for progress bars: to stderr, silent where that is no terminal."""
    from rich.console import Console

    return Console(stderr=True, quiet=not _is_terminal(sys.stderr))


def _is_terminal(stream: Any) -> bool:
    """Return whether a standard stream is open and a terminal."""
    return stream is not None and stream.isatty()


@contextlib.contextmanager
def with_progress(
    items: Sequence[Item], doing: str, *, prints: bool = False
) -> Iterator[Iterable[Item]]:
    """Show a progress bar on stderr while several items are processed, if it is a terminal.

    Args:
        items: what is processed.
        doing: what is done to them.
        prints: whether results are printed meanwhile; then no bar is shown if stdout is a terminal.

    Yields:
        The items.
    """
    bar = len(items) > 1 and _is_terminal(sys.stderr)
    if not bar or (prints and _is_terminal(sys.stdout)):
        yield items
        return
    from rich.progress import Progress

    with Progress(console=stderr_console(), transient=True, redirect_stdout=False) as progress:
        yield progress.track(items, description=doing)


class Shared:
    """Share one context manager between the threads that are inside it at the same time.

    For changes to the whole process, such as a redirected file descriptor: if each thread made and
    undid the change itself, the last to leave would restore another thread's redirection.

    Args:
        make: creates the context manager, which the first thread enters and the last one exits.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._entered = self._make()
                self._entered.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._entered.__exit__(None, None, None)


class _ThreadFilter(threading.local):
    """Match the warnings of threads that are inside `warnings_ignored`."""

    depth = 0

    def match(self, _: str) -> bool:
        """Return whether the calling thread ignores warnings."""
        return self.depth > 0


_ignoring = _ThreadFilter()
_IGNORED: Any = ("ignore", _ignoring, Warning, None, 0)


@contextlib.contextmanager
def _filter_first() -> Iterator[None]:
    """Keep our filter first in the list of warning filters."""
    filters: Any = warnings.filters
    filters.insert(0, _IGNORED)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # other code has reset the list
            filters.remove(_IGNORED)


_filtered = Shared(_filter_first)


@contextlib.contextmanager
def warnings_ignored() -> Iterator[None]:
    """Ignore warnings in this thread only, unlike `warnings.catch_warnings`.

    Before Python 3.14, `catch_warnings` replaces the filters of the whole process, and two threads
    that leave it in the wrong order leave warnings off for good. This keeps one filter in the list
    while any thread is inside, which matches only in those threads. Never yield from a generator
    inside.
    """
    with _filtered:
        _ignoring.depth += 1
        try:
            yield
        finally:
            _ignoring.depth -= 1


@contextlib.contextmanager
def shown_progress(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how far a long job is, how fast it goes, and how long it will take.

    On a terminal as a bar, else by a line for each tenth.

    Yields:
        What is to be told how many items are done, and how many there are.
    """
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
    )
    started, before, tenths = time.monotonic(), -1, 0
    with progress.Progress(*columns, console=stderr_console(), transient=True) as bar:
        task = bar.add_task(doing, total=None, rate="")

        def tell(done: int, total: int) -> None:
            nonlocal before, tenths
            before = done if before < 0 else before
            rate = (done - before) / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=done, total=total, rate=f"{rate:,.1f}/s")
            if not _is_terminal(sys.stderr) and rate and 10 * done // total > tenths:
                left = (total - done) / rate
                say(f"{doing}: {done:,} of {total:,}, {rate:,.1f}/s, {left:,.0f} s left")
                tenths = 10 * done // total

        yield tell


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Make SIGTERM end a command like Ctrl-C, so that finished results are printed."""
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

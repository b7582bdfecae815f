"""What is said on the way: one line each, to stderr, so that stdout stays the answer's own."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console

Item = TypeVar("Item")


def say(text: str) -> None:
    """Prints a line to stderr."""
    print(text, file=sys.stderr, flush=True)


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


def stderr_console() -> Console:
    """Makes the console for progress bars: to stderr, silent where that is no terminal."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())


def with_progress(items: Sequence[Item], doing: str) -> Iterable[Item]:
    """Goes through items with a bar on stderr, where that is a terminal and there are several."""
    if len(items) < 2 or not sys.stderr.isatty():
        return items
    from rich.progress import track

    return track(items, doing, console=stderr_console(), transient=True)


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
            if not sys.stderr.isatty() and rate and 10 * done // total > tenths:
                left = (total - done) / rate
                say(f"{doing}: {done:,} of {total:,}, {rate:,.1f}/s, {left:,.0f} s left")
                tenths = 10 * done // total

        yield tell

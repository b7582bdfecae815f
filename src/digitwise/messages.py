"""What is said on the way: one line each, to stderr, so that stdout stays the answer's own."""

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console

Item = TypeVar("Item")


def say(text: str) -> None:
    """Prints a line to stderr."""
    print(text, file=sys.stderr, flush=True)


def stderr_console() -> Console:
    """Makes the console for progress bars: to stderr, silent where that is no terminal."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())


def with_progress(items: Sequence[Item], doing: str) -> Iterable[Item]:
    """Goes through items with a bar on stderr, where that is a terminal and there are several."""
    if len(items) < 2 or not sys.stderr.isatty():
        return items
    from rich.progress import track

    return track(items, doing, console=stderr_console(), transient=True)

"""What is said on the way: one line each, to stderr, so that stdout stays the answer's own."""

import sys

from rich.console import Console


def say(text: str) -> None:
    """Prints a line to stderr."""
    print(text, file=sys.stderr, flush=True)


def stderr_console() -> Console:
    """Makes the console for progress bars: to stderr, silent where that is no terminal."""
    return Console(stderr=True, quiet=not sys.stderr.isatty())

"""The process that a network is trained in: its allocator and its random state."""

import contextlib
import ctypes
import random
from collections.abc import Iterator

import numpy as np


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the whole process, which makes training faster.

    A convolution's buffers are freed and allocated again at each step. Returning them to the
    system costs page faults, up to half of the time on processors without AVX-512. The process
    keeps its peak of memory, so only processes that do nothing but train should call this, before
    they import Keras. Does nothing on systems without glibc.
    """
    try:
        allocator = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return
    if not hasattr(allocator, "mallopt") or not hasattr(allocator, "gnu_get_libc_version"):
        return
    arenas, mapped, trim, pad = -8, -4, -1, -2  # M_ARENA_MAX, M_MMAP_MAX, M_TRIM_…, M_TOP_PAD
    for option, value in ((arenas, 1), (mapped, 0), (trim, 2**31 - 1), (pad, 2**28)):
        allocator.mallopt(option, value)


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore Python's and NumPy's global random state, which Keras seeds and draws from."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002

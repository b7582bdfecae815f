"""Silencing warnings or redirecting output in one thread leaves the rest of the process alone."""

import contextlib
import io
import sys
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from digitwise.data.images import open_pictures
from digitwise.messages import Shared, warnings_ignored


def two_pages(digits: tuple[np.ndarray, np.ndarray]) -> bytes:
    first, second = (Image.fromarray(255 - image) for image in digits[0][:2])
    file = io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=[second])
    return file.getvalue()


def test_warnings_stay_on_while_and_after_threads_decode_pictures(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    content = two_pages(digits)
    opened = [threading.Event(), threading.Event()]
    left = [threading.Event(), threading.Event()]

    def decode(number: int) -> None:
        pages = open_pictures(content)
        next(pages)
        opened[number].set()
        left[number].wait(180)
        assert len(list(pages)) == 1

    def shown() -> bool:
        with contextlib.suppress(UserWarning):
            warnings.warn("still on", UserWarning, stacklevel=1)
            return False
        return True  # pytest's filters turn a warning into an error

    threads = [threading.Thread(target=decode, args=(number,)) for number in (0, 1)]
    for number, thread in enumerate(threads):  # the first to open its file is the first to leave
        thread.start()
        assert opened[number].wait(180)
    while_decoding = shown()
    for number, thread in enumerate(threads):
        left[number].set()
        thread.join()
    assert while_decoding
    assert shown()


def test_warnings_are_ignored_in_the_thread_that_asks_only() -> None:
    caught: list[str] = []

    def warn() -> None:
        try:
            warnings.warn("elsewhere", UserWarning, stacklevel=1)
        except UserWarning as error:
            caught.append(str(error))

    with warnings_ignored():
        warnings.warn("here", UserWarning, stacklevel=1)
        thread = threading.Thread(target=warn)
        thread.start()
        thread.join()
    assert caught == ["elsewhere"]
    with pytest.raises(UserWarning, match="later"):
        warnings.warn("later", UserWarning, stacklevel=1)


def test_the_last_thread_out_of_a_redirection_restores_the_output() -> None:
    stdout = sys.stdout
    elsewhere = io.StringIO()
    redirected = Shared(lambda: contextlib.redirect_stdout(elsewhere))
    inside, leave = threading.Barrier(2, timeout=180), threading.Event()

    def first() -> None:
        with redirected:
            inside.wait()

    def second() -> None:
        with redirected:
            inside.wait()
            leave.wait(180)
            print("held")

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    threads[0].join()
    assert sys.stdout is elsewhere
    leave.set()
    threads[1].join()
    assert sys.stdout is stdout
    assert elsewhere.getvalue() == "held\n"

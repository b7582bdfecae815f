"""Native log lines are hidden, and nothing else is."""

import os
import threading

import pytest

from digitwise.network.backend import native_log_held_back


def test_stderr_comes_back_when_two_threads_hold_the_log_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    entered, leave = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def hold(number: int) -> None:
        with native_log_held_back():
            entered[number].set()
            leave[number].wait(180)
            os.write(2, f"kept {number}\nI0000 00:00:00.0 sifted out\n".encode())

    threads = [threading.Thread(target=hold, args=(number,)) for number in (0, 1)]
    for number, thread in enumerate(threads):
        thread.start()
        assert entered[number].wait(180)
    for number, thread in enumerate(threads):  # the first to enter is the first to leave
        leave[number].set()
        thread.join()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "kept 0\nkept 1\nafter\n"

"""Pictures stand in line for a place, and a place is free when its picture has left memory."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

import pytest

from digitwise.serving.problems import ProblemError
from digitwise.serving.workers import PicturePool


def test_who_finds_no_place_in_time_is_told_to_come_back() -> None:
    async def ask() -> None:
        pool = PicturePool(threads=1, room=1, patience=0.01)
        async with pool.place():
            with pytest.raises(ProblemError, match="busy"):
                async with pool.place():
                    pass
        async with pool.place() as place:
            assert await place.run(lambda: 7) == 7
        pool.close()

    _run(ask())


def test_a_place_given_up_is_taken_until_its_thread_has_left() -> None:
    begun, leave = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        leave.wait(20)

    async def ask() -> None:
        pool = PicturePool(threads=1, room=1, patience=0.01)

        async def read() -> None:
            async with pool.place() as place:
                await place.run(work)

        reading = asyncio.create_task(read())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.wait([reading])
        with pytest.raises(ProblemError, match="busy"):
            async with pool.place():
                pass
        leave.set()
        pool.close()
        await asyncio.sleep(0)
        async with pool.place():
            pass

    _run(ask())


def _run(asking: Coroutine[None, None, None]) -> None:
    """Runs it in a thread, since Playwright, once open, keeps this one's event loop."""
    with ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, asking).result()

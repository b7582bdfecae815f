"""Every request gets an answer, whatever fails, and gives its place back."""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from digitwise.bundle import Classification
from digitwise.reading.reader import Reader
from digitwise.serving.problems import ProblemError
from digitwise.serving.workers import Batcher, CropAnswer, GivenUpError, PicturePool
from tests.serving.conftest import LONG

pytestmark = pytest.mark.timeout(600)


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
        leave.wait(LONG)

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


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


class FailsOnce:
    """Fails at the first call."""

    def __init__(self, error: BaseException) -> None:
        self.errors = [error]

    def __call__(self, *_: object) -> None:
        if self.errors:
            raise self.errors.pop()


@pytest.mark.parametrize("error", [ValueError("damaged"), StopIteration(), MemoryError()])
def test_a_batch_that_fails_answers_its_requests_and_the_next_is_recognized(
    reader: Reader, digits: tuple[np.ndarray, np.ndarray], error: Exception
) -> None:
    x, y = digits
    fail = FailsOnce(error)

    def recognize(crops: np.ndarray) -> Classification:
        fail()
        return reader.classify(crops)

    async def ask() -> None:
        batcher = Batcher(recognize, lambda _: None)
        with pytest.raises(ProblemError) as refused:
            await _soon(batcher.classify(x[0]))
        assert refused.value.status == 500
        assert (await _soon(batcher.classify(x[0]))).label == y[0]
        batcher.close()

    _run(ask())


def test_requests_are_answered_when_a_metric_fails(
    reader: Reader, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits

    async def ask() -> None:
        batcher = Batcher(reader.classify, FailsOnce(ValueError("no such metric")))
        for image, label in zip(x[:3], y[:3], strict=True):
            assert (await _soon(batcher.classify(image))).label == label
        batcher.close()

    _run(ask())


def test_a_result_of_the_wrong_length_leaves_nobody_waiting(
    reader: Reader, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    async def ask() -> None:
        batcher = Batcher(lambda crops: reader.classify(crops[:1]), lambda _: None)
        asked = [asyncio.create_task(batcher.classify(image)) for image in digits[0][:3]]
        answers = await _soon(asyncio.gather(*asked, return_exceptions=True))
        assert isinstance(answers[0], CropAnswer)
        assert [answer.status for answer in answers[1:]] == [500, 500]
        batcher.close()

    _run(ask())


def test_requests_are_answered_when_the_task_behind_them_is_canceled_or_the_service_stops(
    reader: Reader, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits
    begun, leave = threading.Semaphore(0), threading.Semaphore(0)

    def recognize(crops: np.ndarray) -> Classification:
        begun.release()
        assert leave.acquire(timeout=LONG)
        return reader.classify(crops)

    async def ask() -> None:
        batcher = Batcher(recognize, lambda _: None)

        async def begin(image: np.ndarray) -> "asyncio.Task[CropAnswer]":
            asked = asyncio.create_task(batcher.classify(image))
            await asyncio.to_thread(begun.acquire, timeout=LONG)
            return asked

        first = await begin(x[0])
        second = asyncio.create_task(batcher.classify(x[1]))
        await asyncio.sleep(0)
        assert batcher._running is not None
        batcher._running.cancel()
        leave.release(2)
        with pytest.raises(ProblemError) as refused:
            await _soon(first)
        assert refused.value.status == 500
        assert (await _soon(second)).label == y[1]
        assert begun.acquire(timeout=LONG)
        third = await begin(x[2])
        fourth = asyncio.create_task(batcher.classify(x[3]))
        await asyncio.sleep(0)
        batcher.close()
        leave.release()
        with pytest.raises(ProblemError) as refused:
            await _soon(fourth)
        assert refused.value.status == 503
        assert (await _soon(third)).label == y[2]
        with pytest.raises(ProblemError, match="stopping"):
            await batcher.classify(x[4])

    _run(ask())


def test_a_picture_whose_work_fails_gives_its_place_back() -> None:
    async def ask() -> None:
        pool = PicturePool(threads=1, room=1, patience=LONG)
        for error, raised in ((StopIteration(), RuntimeError), (ValueError(), ValueError)):
            with pytest.raises(raised):
                async with pool.place() as place:
                    await _soon(place.run(FailsOnce(error)))
        async with pool.place() as place:
            assert await _soon(place.run(lambda: 7)) == 7
        pool.close()

    _run(ask())


def test_pictures_that_have_not_begun_are_answered_when_the_service_stops() -> None:
    begun, leave = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert leave.wait(LONG)
        return 7

    async def ask() -> None:
        pool = PicturePool(threads=1, room=2, patience=LONG)

        async def read() -> int:
            async with pool.place() as place:
                return await place.run(work)

        asked = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.to_thread(begun.wait, LONG)
        pool.close()
        leave.set()
        answers = await _soon(asyncio.gather(*asked, return_exceptions=True))
        assert answers[0] == 7
        assert [answer.status for answer in answers[1:]] == [503, 503]

    _run(ask())


def test_reading_stops_soon_after_nobody_waits_for_it(
    reader: Reader, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    page = 255 - np.kron(np.hstack(list(digits[0][:6])), np.ones((2, 2), np.uint8))
    begun, leave, stopped = threading.Event(), threading.Event(), threading.Event()

    async def ask() -> None:
        pool = PicturePool(threads=1, room=1, patience=LONG)

        async def read() -> None:
            async with pool.place() as place:

                def work() -> None:
                    begun.set()
                    assert leave.wait(LONG)
                    try:
                        reader.interruptible(place.check).read(page)
                    except GivenUpError:
                        stopped.set()
                        raise

                await place.run(work)

        reading = asyncio.create_task(read())
        await asyncio.to_thread(begun.wait, LONG)
        reading.cancel()
        await asyncio.wait([reading])
        leave.set()
        async with pool.place() as place:  # the place is free again
            assert await _soon(place.run(lambda: reader.read(page).text)) == "".join(
                map(str, digits[1][:6])
            )
        pool.close()

    _run(ask())
    assert stopped.is_set()


async def _soon(answer: Awaitable[Any]) -> Any:
    """Wait for an answer, which would never come if the code had a bug."""
    return await asyncio.wait_for(answer, LONG)


def _run(asking: Coroutine[None, None, None]) -> None:
    """Runs it in a thread, since Playwright, once open, keeps this one's event loop."""
    with ThreadPoolExecutor(1) as apart:
        apart.submit(asyncio.run, asking).result()

"""What blocks runs here, off the event loop: crops in batches, pictures a few at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.bundle import Classification
from digitwise.serving.gate import log
from digitwise.serving.problems import ProblemError, busy, failed, stopping

Result = TypeVar("Result")
Recognize = Callable[[UInt8[np.ndarray, "n 28 28"]], Classification]
LARGEST_BATCH = 512
_Waiting = tuple[UInt8[np.ndarray, "28 28"], "asyncio.Future[CropAnswer]"]


class CropAnswer(NamedTuple):
    """What one crop was recognized as.

    Attributes:
        label: the most probable class, an index into the bundle's classes.
        confidence: of it, being a digit at all included.
        accepted: whether it is read as that class.
        probabilities: of each class.
    """

    label: int
    confidence: float
    accepted: bool
    probabilities: Float32[np.ndarray, " classes"]


class Batcher:
    """Recognizes crops together that are asked for apart.

    While one batch is computed, in a thread of its own, what comes meanwhile waits and becomes
    the next: alone a crop waits for nobody, and in a crowd it shares.

    Args:
        recognize: what recognizes crops together.
        on_batch: told how many crops each batch had.
    """

    def __init__(self, recognize: Recognize, on_batch: Callable[[int], None]) -> None:
        self._recognize = recognize
        self._on_batch = on_batch
        self._waiting: list[_Waiting] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False

    async def classify(self, crop: UInt8[np.ndarray, "28 28"]) -> CropAnswer:
        """Recognize one crop; the caller limits how many wait.

        Raises:
            ProblemError: recognizing the crop's batch failed, or the service is stopping.
        """
        if self._is_closed:
            raise stopping()
        answer: asyncio.Future[CropAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append((crop, answer))
        if self._running is None:
            self._start()
        return await answer

    def _start(self) -> None:
        """Start the task that computes batches."""
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._ended)

    def _ended(self, _: "asyncio.Task[None]") -> None:
        """Start the task again if it was canceled while crops were waiting."""
        self._running = None
        if self._waiting and not self._is_closed:
            self._start()

    async def _run(self) -> None:
        """Computes batch after batch, until nothing waits."""
        while self._waiting:
            batch = self._waiting[:LARGEST_BATCH]
            del self._waiting[:LARGEST_BATCH]
            try:
                await self._answer(batch)
            except Exception:
                log.exception("a batch failed")
            finally:  # whatever happened, nobody is left waiting
                _refuse(batch, failed)

    async def _answer(self, batch: list[_Waiting]) -> None:
        """Recognize a batch and answer its requests."""
        crops = np.stack([crop for crop, _ in batch])
        found = await asyncio.wrap_future(_submit(self._thread, lambda: self._recognize(crops)))
        for (_, answer), recognized in zip(batch, _apart(found), strict=True):
            if not answer.done():  # its request may have been given up
                answer.set_result(recognized)
        self._on_batch(len(batch))

    def close(self) -> None:
        """Refuse waiting crops; the thread ends when it has finished its batch."""
        self._is_closed = True
        _refuse(self._waiting, stopping)
        self._waiting.clear()
        self._thread.shutdown(wait=False)


def _refuse(waiting: list[_Waiting], problem: Callable[[], ProblemError]) -> None:
    """Refuse the requests that have no answer yet."""
    for _, answer in waiting:
        if not answer.done():
            answer.set_exception(problem())


def _submit(threads: ThreadPoolExecutor, work: Callable[[], Result]) -> "Future[Result]":
    """Submit work to a thread pool.

    Raises:
        ProblemError: the threads have been shut down.
    """

    def run() -> Result:
        try:
            return work()
        except StopIteration as error:  # asyncio before Python 3.12 would wait forever
            raise RuntimeError("the work ended with StopIteration") from error

    try:
        return threads.submit(run)
    except RuntimeError:
        raise stopping() from None


def _apart(found: Classification) -> list[CropAnswer]:
    """Takes a classification apart, crop by crop."""
    return [
        CropAnswer(*row)
        for row in zip(
            found.classes.tolist(),
            found.confidence.tolist(),
            found.accepted.tolist(),
            found.probabilities,
            strict=True,
        )
    ]


class GivenUpError(Exception):
    """Nobody is waiting for the result of this work anymore."""


class PicturePool:
    """Threads for pictures, with room for some to wait.

    Args:
        threads: how many pictures are worked on at once.
        room: how many are let in, those worked on included.
        patience: seconds that others stand in line before they are turned away.
    """

    def __init__(self, threads: int, room: int, patience: float) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="picture")
        self._free = asyncio.Semaphore(room)
        self._patience = patience

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator["Place"]:
        """Holds a place, from before the picture is received, so that few are in memory.

        Raises:
            ProblemError: no place came free in time.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise busy() from None
        place = Place(self._threads)
        try:
            yield place
        finally:
            place.when_left(self._free.release)

    def close(self) -> None:
        """Refuse pictures whose work has not begun; threads end when they finish their picture."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Place:
    """A picture's place: what blocks is run here.

    Args:
        threads: that run it.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._given_up: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run blocking work.

        Raises:
            ProblemError: the service is stopping, and the work had not begun.
        """
        job = _submit(self._threads, work)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if done.cancelled():  # by the pool, which was closed
                raise stopping() from None
            job.cancel()  # does nothing once it has begun
            self._given_up = done
            raise

    def check(self) -> None:
        """Stop work that nobody is waiting for anymore; call it in the thread, between steps.

        Raises:
            GivenUpError: the request has timed out, or the service stops.
        """
        if self._given_up is not None:
            raise GivenUpError

    def when_left(self, free: Callable[[], None]) -> None:
        """Frees the place; where a caller gave up, not before the thread has left its picture.

        A thread cannot be stopped, and its picture is in memory.
        """

        def leave(done: asyncio.Future[Any]) -> None:
            if not done.cancelled():
                done.exception()  # nobody asks any more: it counts as seen
            free()

        if self._given_up is None:
            free()
        else:
            self._given_up.add_done_callback(leave)

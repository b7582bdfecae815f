"""What blocks runs here, off the event loop: crops in batches, pictures a few at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.reading.recognizer import Classification
from digitwise.serving.problems import busy

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

    async def classify(self, crop: UInt8[np.ndarray, "28 28"]) -> CropAnswer:
        """Recognizes one crop; how many wait is for the caller to bound."""
        answer: asyncio.Future[CropAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append((crop, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        """Computes batch after batch, until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = self._waiting[:LARGEST_BATCH]
            del self._waiting[:LARGEST_BATCH]
            crops = np.stack([crop for crop, _ in batch])
            try:
                found = await loop.run_in_executor(self._thread, self._recognize, crops)
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            self._on_batch(len(batch))
            for (_, answer), told in zip(batch, _apart(found), strict=True):
                if not answer.done():  # its request may have been given up
                    answer.set_result(told)
        self._running = None

    def close(self) -> None:
        """Lets the thread go when it has finished what it does."""
        self._thread.shutdown()


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
        """Lets the threads go when they have finished what they do."""
        self._threads.shutdown(cancel_futures=True)


class Place:
    """A picture's place: what blocks is run here.

    Args:
        threads: that run it.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._given_up: asyncio.Future[Any] | None = None

    async def run(self, work: Callable[[], Result]) -> Result:
        """Runs what blocks."""
        job = self._threads.submit(work)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            job.cancel()  # does nothing once it has begun
            self._given_up = done
            raise

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

"""Load on `digitwise serve`: how many requests a second, how long each, and how much memory.

    python benchmarks/load.py [ROW...] [--quick]

Without rows, all of them: crops (64 connections), overload (four times what is let in), mixed (ten
minutes of everything), page (from a stroke to its bars in Chromium). The service runs in a process
of its own on a free port of this machine; the client shares its cores. --quick takes a tenth of the
time, and keeps its figures apart.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import results

CONNECTIONS = 64
MIXED_CONNECTIONS = 16
OVERLOAD_CONNECTIONS = 4 * 256  # four times what the service's settings let in at one time
STROKES = {
    "strokes": [[[60, 50], [80, 20], [80, 120]]],
    "width": 160,
    "height": 140,
    "stroke_width": 8,
}


@dataclass
class Service:
    """A running service."""

    process: psutil.Process
    port: int
    start_seconds: float

    @property
    def megabytes(self) -> float:
        """What it holds resident."""
        return float(self.process.memory_info().rss) / 1e6


@contextlib.contextmanager
def running() -> Iterator[Service]:
    """Starts the service, and stops it."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "digitwise", "serve", "--port", "0", "--json", "--no-log"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}"):
        text += process.stdout.readline()
    seconds = time.perf_counter() - started
    port = int(json.loads(text)["address"].rsplit(":", 1)[1])
    try:
        yield Service(psutil.Process(process.pid), port, seconds)
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of those answered by 200

    def figures(self, wall: float) -> dict[str, Any]:
        """Sums up."""
        ordered = sorted(self.seconds) or [0.0]
        return {
            "requests": sum(self.statuses.values()),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "a_second": self.statuses[200] / wall,
            "median_milliseconds": 1000 * statistics.median(ordered),
            "p99_milliseconds": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
        }


def request(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """Words a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(
    port: int, connections: int, seconds: float, requests: list[bytes], tally: Tally
) -> None:
    """Keeps connections busy for a while, each one request after another."""
    end = time.perf_counter() + seconds

    async def connection(number: int) -> None:
        async with _connected(port) as (reader, writer):
            while time.perf_counter() < end:
                started = time.perf_counter()
                writer.write(requests[number % len(requests)])
                number += 1
                status = int((await reader.readline()).split()[1])
                length = 0
                while (line := await reader.readline()) != b"\r\n":
                    if line.lower().startswith(b"content-length:"):
                        length = int(line[15:])
                await reader.readexactly(length)
                tally.statuses[status] += 1
                if status == 200:
                    tally.seconds.append(time.perf_counter() - started)

    await asyncio.gather(*(connection(number) for number in range(connections)))


@contextlib.asynccontextmanager
async def _connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Opens a connection, and closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _crops() -> list[bytes]:
    """Words requests of 28×28 digits."""
    import digitwise as dw

    _, (x, _) = dw.load_data()
    return [
        request("/api/read", json.dumps({"pixels": image.tolist()}).encode()) for image in x[:512]
    ]


def _load(port: int, connections: int, seconds: float, requests: list[bytes]) -> dict[str, Any]:
    """Asks for a while, and sums up."""
    tally = Tally()
    started = time.perf_counter()
    asyncio.run(ask(port, connections, seconds, requests, tally))
    return tally.figures(time.perf_counter() - started)


def crops(share: float) -> dict[str, Any]:
    """64 connections that ask for 28×28 digits."""
    requests = _crops()
    with running() as service:
        idle = service.megabytes
        figures = _load(service.port, CONNECTIONS, 60 * share, requests)
        return {
            **figures,
            "start_seconds": service.start_seconds,
            "idle_megabytes": idle,
            "megabytes": service.megabytes,
        }


def overload(share: float) -> dict[str, Any]:
    """Four times as many connections as requests are let in; then 64 again."""
    requests = _crops()
    with running() as service:
        before = _load(service.port, CONNECTIONS, 10 * share, requests)
        megabytes = [service.megabytes]
        under = []
        for _ in range(2):
            under.append(_load(service.port, OVERLOAD_CONNECTIONS, 15 * share, requests))
            megabytes.append(service.megabytes)
        after = _load(service.port, CONNECTIONS, 5, requests)
        return {"before": before, "under": under, "after": after, "megabytes": megabytes}


def mixed(share: float) -> dict[str, Any]:
    """Ten minutes of crops, strokes, explanations and pages, by fewer connections."""
    import cv2

    import digitwise as dw

    _, (x, _) = dw.load_data()
    page = 255 - np.vstack(
        [np.hstack([np.pad(image, 8) for image in x[start : start + 8]]) for start in (0, 8, 16)]
    )
    picture = cv2.imencode(".png", page)[1].tobytes()
    strokes = json.dumps(STROKES).encode()
    requests = [
        *_crops()[:12],
        request("/api/read", strokes),
        request("/api/explain", strokes),
        request("/api/read", picture, "image/png"),
        request("/api/read", b"no picture", "image/png"),
    ]
    with running() as service:
        _load(service.port, MIXED_CONNECTIONS, 10, requests)
        megabytes, parts = [service.megabytes], []
        for _ in range(10):
            parts.append(_load(service.port, MIXED_CONNECTIONS, 60 * share, requests))
            megabytes.append(service.megabytes)
        return {"parts": parts, "megabytes": megabytes}


def page(share: float) -> dict[str, Any]:
    """From a movement of the mouse to the bars that show what was drawn, in Chromium."""
    from playwright.sync_api import sync_playwright

    watch = """() => {
        window.times = [];
        let moved = 0;
        const box = document.querySelector("#box");
        box.addEventListener("pointermove", (event) => {
            if (event.buttons && !moved) moved = performance.now();
        });
        new MutationObserver(() => {
            if (moved) window.times.push(performance.now() - moved);
            moved = 0;
        }).observe(document.querySelector("#bars"), { subtree: true, characterData: true,
            childList: true, attributes: true });
    }"""
    flags = "--no-sandbox --disable-background-networking --disable-component-update"
    with running() as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=[*flags.split(), "--disable-sync", "--no-first-run"],
        )
        opened = browser.new_page()
        opened.goto(f"http://127.0.0.1:{service.port}")
        opened.wait_for_selector("#model:not(:empty)")
        opened.evaluate(watch)
        frame = opened.locator("#box").bounding_box()
        assert frame is not None
        for _ in range(max(2, int(10 * share))):
            for part in range(40):
                angle = part / 40 * 2 * np.pi
                opened.mouse.move(
                    frame["x"] + frame["width"] * (0.5 + 0.12 * np.sin(angle)),
                    frame["y"] + frame["height"] * (0.5 - 0.35 * np.cos(angle)),
                )
                if not part:
                    opened.mouse.down()
                time.sleep(0.03)
            opened.mouse.up()
            opened.locator("#clear").click()
        times = opened.evaluate("window.times")
        browser.close()
    return {
        "answers": len(times),
        "median_milliseconds": statistics.median(times),
        "p90_milliseconds": float(np.quantile(times, 0.9)),
    }


ROWS: dict[str, Callable[[float], dict[str, Any]]] = {
    "crops": crops,
    "overload": overload,
    "mixed": mixed,
    "page": page,
}
CONNECTIONS_OF = {
    "crops": CONNECTIONS,
    "overload": OVERLOAD_CONNECTIONS,
    "mixed": MIXED_CONNECTIONS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    results.add_names(parser, "rows", ROWS)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    arguments = parser.parse_args()
    share = 0.1 if arguments.quick else 1.0
    if arguments.quick:
        results.keep_apart()
    for row in arguments.rows or ROWS:
        figures = ROWS[row](share)
        print(row, json.dumps(figures, indent=2), flush=True)
        settings = {"connections": CONNECTIONS_OF.get(row), "share_of_time": share}
        results.write(f"load-{row}", settings, figures, f"python benchmarks/load.py {row}")


if __name__ == "__main__":
    if data := os.environ.get("DIGITWISE_DATA"):
        os.environ["DIGITWISE_DATA"] = str(Path(data).absolute())
    main()

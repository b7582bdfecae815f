"""Reading in bulk on Ray: how fast with more workers, and how much memory with more inputs.

    python benchmarks/scale.py [ROW...] [--again] [--quick]

Without rows, both: bulk-speed (2,000 composed pages, read by `digitwise read` held to one thread,
by one worker and by two, in turn) and bulk-memory (1,000 inputs and 10,000). Each process has one
thread. Rates are those of warm readers: what comes before the first shard is done, such as Ray's
start, is left out on all sides; what the driver does until its call returns is counted. --quick
takes a tenth of the pages; its figures are kept apart.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import results

PAGES, DISTINCT, SHARD_SIZE = 2000, 400, 25
CONDITIONS = ("plain", "shadow", "blur", "noise", "ruled", "tilt", "size", "form")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
SIDES = {"`digitwise read`, one thread": 0, "one worker": 1, "two workers": 2}
Run = dict[str, Any]


def write_pages(folder: Path, count: int) -> None:
    """Composes pages of MNIST's test digits under mild conditions; some are there several times."""
    from pages import page_for

    import digitwise as dw

    _, (x, y) = dw.load_data(allow_sample=False)
    random = np.random.default_rng(0)
    folder.mkdir()
    distinct = min(count, DISTINCT)
    for number in range(count):
        file = folder / f"{number:06}.jpg"
        if number >= distinct:
            os.link(folder / f"{number % distinct:06}.jpg", file)
            continue
        page, _ = page_for(CONDITIONS[number % len(CONDITIONS)], 0, x, y, random)
        cv2.imwrite(str(file), page[..., ::-1])


def measured_run(folder: Path, output: Path, workers: int) -> Run:
    """Reads a folder in a process of its own, and watches the memory of all that take part."""
    command = [sys.executable, __file__, "--measured", str(folder), str(output), str(workers)]
    process = subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.PIPE, text=True)
    peaks: dict[str, float] = {}
    watcher = threading.Thread(target=_watch, args=(process, peaks))
    watcher.start()
    printed, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return {**json.loads(printed.splitlines()[-1]), **peaks}


def _watch(process: "subprocess.Popen[str]", peaks: dict[str, float]) -> None:
    """Notes the most memory that the driver, and any worker, has held."""
    while process.poll() is None:
        for other in psutil.process_iter():
            try:
                role = "driver" if other.pid == process.pid else "worker"
                if role == "worker" and "MapWorker" not in "".join(other.cmdline()):
                    continue
                megabytes = other.memory_info().rss / 1e6
            except psutil.Error:
                continue
            peaks[f"{role}_megabytes"] = max(peaks.get(f"{role}_megabytes", 0), megabytes)
        time.sleep(0.25)


def measured(folder: str, output: str, workers: int) -> None:
    """Reads a folder in this process, and prints how long it took from the first shard on."""
    marks: list[tuple[float, int]] = []
    if workers:
        from digitwise.cluster.bulk import read_in_bulk

        def mark(done: int, _: int) -> None:
            marks.append((time.perf_counter(), done))

        started = time.perf_counter()
        read_in_bulk([folder], output, workers=workers, shard_size=SHARD_SIZE, on_progress=mark)
        marks = marks[1:]  # the first says that nothing is done yet
    else:
        import digitwise as dw

        cv2.setNumThreads(1)
        started = time.perf_counter()
        reader = dw.Reader()
        documents = []
        for number, file in enumerate(sorted(Path(folder).iterdir()), 1):
            documents += [reading.to_dict() for reading in reader.read_pages(file)]
            if number % SHARD_SIZE == 0:
                marks.append((time.perf_counter(), number))
        Path(output).write_text(json.dumps(documents))
    ended = time.perf_counter()
    begun, before = marks[0]
    pages = marks[-1][1] - before
    print(
        json.dumps(
            {
                "pages": pages,
                "seconds": ended - begun,
                "a_second": pages / (ended - begun),
                "whole_seconds": ended - started,
            }
        )
    )


def speed(again: bool, quick: bool) -> None:
    """Reads the same pages with each side in turn."""
    pages, turns = (PAGES // 10, 1) if quick else (PAGES, 2)
    settings = {"pages": pages, "turns": turns, "shard_size": SHARD_SIZE}
    if not again and results.is_done("bulk-speed", settings):
        print("bulk-speed: is there")
        return
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        write_pages(Path(name) / "pages", pages)
        for turn in range(turns):
            for side, workers in SIDES.items():
                output = Path(name) / f"{turn}-{workers}"
                run = measured_run(Path(name) / "pages", output, workers)
                runs.append({"contender": side, "turn": turn, **run})
                print("bulk-speed", json.dumps(runs[-1]), flush=True)
    figures = {}
    for side in SIDES:
        own = [run["a_second"] for run in runs if run["contender"] == side]
        figures[side] = {"a_second": statistics.median(own)}
    plain, one = (figures[side]["a_second"] for side in list(SIDES)[:2])
    for rates in figures.values():
        rates["of_read"], rates["of_one_worker"] = (
            rates["a_second"] / plain,
            rates["a_second"] / one,
        )
    command = "python benchmarks/scale.py bulk-speed"
    results.write("bulk-speed", settings, {"runs": runs, "contenders": figures}, command)


def memory(again: bool, quick: bool) -> None:
    """Reads ten times as many inputs, with two workers."""
    counts = (100, 1000) if quick else (1000, 10_000)
    settings = {"inputs": counts, "shard_size": SHARD_SIZE}
    if not again and results.is_done("bulk-memory", settings):
        print("bulk-memory: is there")
        return
    figures: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as name:
        for count in counts:
            write_pages(Path(name) / f"pages-{count}", count)
            run = measured_run(Path(name) / f"pages-{count}", Path(name) / f"out-{count}", 2)
            figures[f"{count:,}"] = run
            print("bulk-memory", json.dumps(run), flush=True)
    command = "python benchmarks/scale.py bulk-memory"
    results.write("bulk-memory", settings, {"contenders": figures}, command)


ROWS: dict[str, Callable[[bool, bool], None]] = {"bulk-speed": speed, "bulk-memory": memory}


def main() -> None:
    if sys.argv[1:2] == ["--measured"]:
        measured(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    results.add_names(parser, "rows", ROWS)
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the pages")
    arguments = parser.parse_args()
    if arguments.quick:
        results.keep_apart()
    for row in arguments.rows or ROWS:
        ROWS[row](arguments.again, arguments.quick)


if __name__ == "__main__":
    main()

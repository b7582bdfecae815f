"""Writes the tables of the documents from the rows that were measured.

    python benchmarks/tables.py [--check]

With --check nothing is written; the exit status is 1 where a document says something else.
"""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import results

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "MODEL_CARD.md",
    ROOT / "docs" / "benchmarks.md",
    ROOT / "docs" / "scaling.md",
)
_SCRIPTS = "python benchmarks/"  # where a column of commands says so once


def training_table() -> str:
    """Words what was measured of training, a row a figure."""
    lines = [
        f"| what | measured | runs | processor | `{_SCRIPTS}`… |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row, what in (
        ("tutorial", "`tutorial`, 15 epochs: test accuracy"),
        ("fast-1-epoch", "`fast`, 1 epoch: test accuracy"),
        ("fast-2-epochs", "`fast`, 2 epochs: test accuracy"),
    ):
        if kept := results.read(row):
            measured = f"**{_accuracy(kept)}**, {kept['median_seconds']:.0f} s of training"
            lines.append(_line(kept, what, measured, f"{len(kept['runs'])} seeds"))
    if kept := results.read("epoch-time"):
        sides = kept["sides"]
        turns = f"{kept['settings']['alternations']} in turn"
        names = {
            "plain": "the tutorial's network, one epoch, plain `model.fit`",
            "float32": "… by `train`, float32",
            "auto": "… by `train`, bfloat16",
        }
        for side, name in names.items():
            figures = sides[side]
            ratio = "" if side == "plain" else f" (**{figures['median_ratio']:.2f}** of plain)"
            measured = f"{figures['median_seconds']:.1f} s{ratio}, accuracy {_accuracy(figures)}"
            lines.append(_line(kept, name, measured, turns))
    if kept := results.read("bare-machine"):
        measured = f"**{_accuracy(kept)}** in {kept['median_whole_seconds']:.0f} s in all"
        what = "no network, no data: `fast` on the built-in sample"
        lines.append(_line(kept, what, measured, f"{len(kept['runs'])} seeds"))
    if kept := results.read("starting"):
        measured = f"{kept['help_seconds']:.2f} s; a refused call {kept['refused_seconds']:.2f} s"
        what = "`digitwise --help`"
        lines.append(_line(kept, what, measured, f"{kept['settings']['starts']} starts"))
    return "\n".join(lines)


def _share(ratio: float) -> str:
    """Words a ratio; a small one as a fraction."""
    return f"**{ratio:.2f}**" if ratio > 0.1 else f"**1/{1 / ratio:.0f}**"


def _accuracy(figures: dict[str, Any]) -> str:
    """Words a mean accuracy with its spread."""
    return _spread(figures["mean_accuracy"], figures["standard_deviation"])


def _spread(mean: float, deviation: float | None) -> str:
    """Format a mean accuracy with its standard deviation, if there is one."""
    return f"{mean:.2%}" if deviation is None else f"{mean:.2%} ± {100 * deviation:.2f}"


def _line(kept: dict[str, Any], *cells: str) -> str:
    """Words a table's row, which ends with the processor and the command."""
    command = kept["command"].removeprefix(_SCRIPTS)
    return f"| {' | '.join((*cells, _processor(kept), f'`{command}`'))} |"


def _quoted(kept: dict[str, Any]) -> str:
    """Words the command that measures a row."""
    return f"`{kept['command']}`"


def _processor(kept: dict[str, Any]) -> str:
    """Names what decides how fast the processors of a row compute."""
    runs = [run for run in kept.get("runs", ()) if "processor" in run]
    return (
        ", ".join(dict.fromkeys(run["processor"] for run in runs)) or kept["machine"]["processor"]
    )


def _source(kept: dict[str, Any], runs: str) -> str:
    """Words what made a table: the command, its runs, and on what."""
    return f"{_quoted(kept)}: {runs}; two cores with {_processor(kept)}"


def hands_table() -> str:
    """Format how well each set of digits is recognized, one row per set."""
    kept = results.read("hands")
    if kept is None:
        return _UNMEASURED
    lines = [
        "| tested on | images | accuracy | a plain network | accepted | calibration error |",
        "| --- | --- | --- | --- | --- | --- |",
    ]

    def cell(figures: dict[str, Any], figure: str) -> str:
        if figure not in figures:
            return "–"
        return _spread(figures[figure], figures.get(f"{figure}_deviation"))

    for name, figures in kept["sets"].items():
        images = f"{figures['images']:,}" if "images" in figures else "–"
        plain = kept["plain"][name].get("accuracy")
        cells = (cell(figures, "accuracy"), "–" if plain is None else _spread(plain, None))
        rest = (cell(figures, "accepted"), cell(figures, "calibration_error"))
        lines.append(f"| {' | '.join([name, images, *cells, *rest])} |")
    seeds = len(kept["settings"]["bundles"])
    over = f", mean ± deviation over {seeds} seeds" if seeds > 1 else ""
    beside = "a plain network: `fast`, trained on MNIST alone"
    return "\n".join([*lines, "", f"{_quoted(kept)}{over}; {beside}"])


def reading_table() -> str:
    """Words what was measured of reading, a row a figure."""
    kept = results.read("reading")
    if kept is None:
        return _UNMEASURED
    photographs, speed = kept["photographs"], kept["speed"]
    ordered, scattered = photographs["in_order"], photographs["scattered"]
    retakes = photographs["retakes"]

    def edits(figure: str, times: int = 1) -> str:
        """Format the edits in photographs with a reading order, and in scattered ones."""
        counts = [
            f"{part[figure]} edits in {part['digits'] * times:,} digits"
            for part in (ordered, scattered)
        ]
        return f"{counts[0]}; scattered: {counts[1]}"

    rows = {
        f"{len(photographs['files'])} photographs of handwriting": edits("edits"),
        f"the same, each retaken {retakes} times: turned, far, blurred, as JPEG": edits(
            "retaken_edits", retakes
        ),
        f"the same, each laid on {retakes} tables, plain or grained": edits(
            "on_a_table_edits", retakes
        ),
        "one photograph, the whole process": (
            f"{speed['cold_seconds']:.2f} s, {speed['cold_megabytes']:.0f} MB"
        ),
        "a 12-megapixel JPEG of a hundred digits, the whole process": (
            f"{speed['large_seconds']:.2f} s, {speed['large_megabytes']:.0f} MB"
        ),
        "a hundred digits on 1240×1754 pixels, warm": (
            f"{speed['hundred_digits_milliseconds']:.0f} ms"
        ),
    }
    ways = {
        "digitwise": "crops recognized by the network that ships, in eight bits",
        "ONNX Runtime": "the same network in ONNX Runtime, float32",
        "OpenVINO": "the same network in OpenVINO, float32",
        "OpenVINO by itself": "the same network in OpenVINO, which takes bfloat16 with AMX",
        "model.predict": "the same network in Keras, `model.predict`",
        "model(x)": "the same network in Keras, `model(x)`",
        "fast": "crops recognized by `fast`",
    }
    for way, name in ways.items():
        if f"{way}: digits a second" in speed:
            many = speed[f"{way}: digits a second"]
            one = speed[f"{way}: one digit, milliseconds"]
            rows[name] = f"{many:,.0f} a second; one in {one:.2f} ms"
    lines = ["| what | measured |", "| --- | --- |"]
    lines += [f"| {name} | {measured} |" for name, measured in rows.items()]
    runs = f"medians of {kept['settings']['starts']}"
    count = f"{scattered['files']} photograph{'s' * (scattered['files'] > 1)}"
    note = (
        f"Scattered: {count} without a reading order, so that the digits read are compared with "
        "those written after sorting both."
    )
    return "\n".join([*lines, "", f"{_source(kept, runs)}. {note}"])


def reliability_table() -> str:
    """Format how often digits on composed pages are right, by confidence band."""
    kept = results.read("pages")
    if kept is None:
        return _UNMEASURED
    rows = kept["reliability"]["all"]
    ends = [*(f"{row['from']:g}" for row in rows[1:]), "1"]
    figures = "mean confidence | right"
    lines = [
        f"| confidence | digits | {figures} | touching digits | {figures} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for end, row, touching in zip(ends, rows, kept["reliability"]["touching"], strict=True):
        if not row["digits"]:
            continue
        cells = [f"{row['from']:g} to {end}"]
        for part in (row, touching):
            cells.append(f"{part['digits']:,}")
            shares = (part["mean_confidence"], part["right"])
            cells += ["–" if share is None else f"{share:.1%}" for share in shares]
        lines.append(f"| {' | '.join(cells)} |")
    command = f"`{kept['command']} --pages {kept['settings']['pages']}`"
    what = "all pages above, and those of the row touching alone"
    return "\n".join([*lines, "", f"{command}: {what}"])


def pages_table() -> str:
    """Words the digit error rate of composed pages, a row a condition."""
    kept = results.read("pages")
    if kept is None:
        return _UNMEASURED
    rates: dict[str, list[str]] = {}
    for run in kept["runs"]:
        rates.setdefault(run["condition"], []).append(f"{run['error_rate']:.1%}")
    lines = ["| condition | mild | medium | strong |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {condition} | {' | '.join([*measured, '', ''][:3])} |"
        for condition, measured in rates.items()
    ]
    counts = [run["digits"] for run in kept["runs"]]
    command = f"`{kept['command']} --pages {kept['settings']['pages']}`"
    return "\n".join([*lines, "", f"{command}: {min(counts)} to {max(counts)} digits a cell"])


def time_table() -> str:
    """Words how long each contender takes to 99%, and ours beside it."""
    kept = results.read("time-to-99")
    if kept is None:
        return _UNMEASURED
    names = {
        "fast": "`digitwise train --model fast --epochs 1 --validation 0`",
        "train_mnist_fast": "train_mnist_fast",
        "keras_example": "Keras's example",
        "pytorch_example": "PyTorch's example",
    }
    lines = [
        "| what | time to 99% | ours takes | accuracy | runs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for contender, figures in kept["contenders"].items():
        name, _, best = contender.partition(" ")
        what = f"{names[name]}, {best}" if best else names[name]
        epoch = f", epoch {figures['epoch']}" if figures["epoch"] > 1 else ""
        reached = "" if figures["reached"] else ", 99% not reached"
        ratio = "–" if contender == "fast" else f"{_share(figures['ratio'])} of it"
        ends = [
            run["epochs"][figures["epoch"] - 1]["seconds"]
            for run in kept["runs"]
            if run["contender"] == contender
        ]
        spread = f" ({min(ends):.1f}–{max(ends):.1f})"
        seconds = f"{figures['median_seconds']:.1f} s{spread}{epoch}{reached}"
        lines.append(f"| {what} | {seconds} | {ratio} | {_accuracy(figures)} | {figures['runs']} |")
    whole = kept["contenders"]["fast"]["median_whole_seconds"]
    lines.append(f"| the whole command, imports included | {whole:.1f} s | | | |")
    return "\n".join([*lines, "", _source(kept, "medians (least–most) of runs in turn")])


def accuracy_table() -> str:
    """Words what the most accurate and the smallest networks reach, a row each."""
    lines = [
        f"| what | accuracy | over five shifts | training | seeds | processor | `{_SCRIPTS}`… |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = {
        ("accurate", "accurate"): "`accurate`",
        ("ensemble", "ensemble"): "the mean answer of {networks} `accurate`",
        ("ensemble", "distilled"): "the same, distilled into one `accurate`",
        ("small", "small"): "`small`",
        ("fashion", "accurate"): "`accurate` on Fashion-MNIST",
    }
    for (row, contender), name in names.items():
        kept = results.read(row)
        if kept is None or contender not in kept["contenders"]:
            continue
        figures = kept["contenders"][contender]
        runs = [run for run in kept["runs"] if run["contender"] == contender]
        what = name.format(**runs[0])
        if "parameters" in runs[0]:
            what += (
                f": {runs[0]['parameters']:,} parameters, {runs[0]['kilobytes']:,.0f} kB of ONNX"
            )
        seconds = figures["median_seconds"]
        took = f"{seconds / 60:.0f} min" if seconds else "–"
        accuracy = results.over_seeds([run["accuracy"] for run in runs])
        shifts = results.over_seeds([run["accuracy_over_shifts"] for run in runs])
        count = str(len(runs)) if seconds else "–"
        lines.append(_line(kept, what, _accuracy(accuracy), _accuracy(shifts), took, count))
    return "\n".join(lines) if len(lines) > 2 else _UNMEASURED


def exports_table() -> str:
    """Words how each exported form of the network that ships compares."""
    columns = {
        "form": "{name}",
        "kB": "{kilobytes:,.0f}",
        "accuracy": "{accuracy:.2%}",
        "same class as Keras": "{same_class:.2%}",
        "one digit": "{one_milliseconds:.2f} ms",
        "digits a second": "{a_second:,.0f}",
    }
    return _contenders_table("exports", columns)


def scaling_table() -> str:
    """Words what more training images cost."""
    columns = {
        "images": "{name}",
        "time of one epoch of `fast`": "{times_as_long:.1f} times as long",
        "more memory of its own": "{more_megabytes_held:,.0f} MB",
        "with files in memory": "{more_megabytes:,.0f} MB",
        "more data": "{more_megabytes_of_data:,.0f} MB",
    }
    return _contenders_table("scaling", columns)


def load_table() -> str:
    """Words what the service bears, a row a load."""
    lines = [f"| load | measured | processor | `{_SCRIPTS}`… |", "| --- | --- | --- | --- |"]
    if kept := results.read("load-crops"):
        refused = sum(count for status, count in kept["statuses"].items() if status != "200")
        measured = (
            f"**{kept['a_second']:,.0f}** a second, half within {kept['median_milliseconds']:.0f} "
            f"ms, 99 in 100 within **{kept['p99_milliseconds']:.0f} ms**; {refused} of "
            f"{kept['requests']:,} refused"
        )
        what = f"{kept['settings']['connections']} connections, a minute of 28×28 digits"
        lines.append(_line(kept, what, measured))
    if kept := results.read("load-overload"):
        under, after = kept["under"][-1], kept["after"]
        shares = [part["statuses"].get("503", 0) / part["requests"] for part in kept["under"]]
        low, top = kept["megabytes"][0], kept["megabytes"][-1]
        measured = (
            f"{max(shares):.0%} are told 503 and when to come again, {under['a_second']:,.0f} "
            f"answers a second; {low:.0f} MB before, {top:.0f} MB after; with 64 connections right "
            f"afterwards {after['a_second']:,.0f} a second, none refused"
        )
        assert set(after["statuses"]) == {"200"}
        what = f"{kept['settings']['connections']:,} connections, four times what is let in"
        lines.append(_line(kept, what, measured))
    if kept := results.read("load-mixed"):
        statuses: Counter[str] = Counter()
        for part in kept["parts"]:
            statuses.update(part["statuses"])
        first, *_, last = memory = kept["megabytes"]
        measured = (
            f"{statuses.total():,} requests, {statuses['503']:,} told to come again; {first:.0f} "
            f"MB at the beginning, {memory[len(memory) // 2]:.0f} MB halfway, {last:.0f} MB at "
            "the end"
        )
        connections = kept["settings"]["connections"]
        what = (
            f"{connections} connections, ten minutes of digits, and one in four strokes, "
            "explanations, pages or broken files"
        )
        lines.append(_line(kept, what, measured))
    if kept := results.read("load-page"):
        measured = (
            f"**{kept['median_milliseconds']:.0f} ms** (median of {kept['answers']}; nine in ten "
            f"within {kept['p90_milliseconds']:.0f} ms)"
        )
        what = "on the page, from a stroke to its bars"
        lines.append(_line(kept, what, measured))
    if kept := results.read("load-crops"):
        measured = f"{kept['start_seconds']:.1f} s, {kept['idle_megabytes']:.0f} MB resident"
        lines.append(_line(kept, "to start", measured))
    return "\n".join(lines)


def bulk_speed_table() -> str:
    """Words how fast pages are read with more workers."""
    columns = {
        "who reads": "{name}",
        "pages a second": "{a_second:.1f}",
        "of `digitwise read`": "{of_read:.2f}",
        "of one worker": "{of_one_worker:.2f}",
    }
    return _contenders_table("bulk-speed", columns)


def bulk_cost_table() -> str:
    """Words what many pages cost, by the rate that was measured."""
    kept = results.read("bulk-speed")
    if kept is None:
        return _UNMEASURED
    rate = kept["contenders"]["two workers"]["a_second"] / 2
    lines = ["| pages | hours of one core | time on 100 cores |", "| --- | --- | --- |"]
    for pages, words in ((10**6, "a million"), (10**9, "a billion")):
        hours = pages / rate / 3600
        days = hours / 100 / 24
        time = f"{hours / 100 * 60:.0f} minutes" if days < 1 else f"{days:,.0f} days"
        lines.append(f"| {words} | {hours:,.0f} | {time} |")
    return "\n".join(lines)


def bulk_memory_table() -> str:
    """Words how much memory more inputs take."""
    columns = {
        "inputs": "{name}",
        "the driver's most": "{driver_megabytes:,.0f} MB",
        "a worker's most": "{worker_megabytes:,.0f} MB",
        "pages a second": "{a_second:.1f}",
    }
    return _contenders_table("bulk-memory", columns)


def _contenders_table(row: str, columns: dict[str, str]) -> str:
    """Tables a row's contenders: what stands in each column is a format of their figures."""
    kept = results.read(row)
    if kept is None:
        return _UNMEASURED
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for name, figures in kept["contenders"].items():
        words = (column.format(name=name, **figures) for column in columns.values())
        lines.append(f"| {' | '.join(words)} |")
    turns = len(kept.get("runs", ())) // len(kept["contenders"])
    runs = f"medians of {turns} runs in turn" if turns > 1 else "one run each"
    return "\n".join([*lines, "", _source(kept, runs)])


_UNMEASURED = "Not measured yet."
TABLES = {
    "time-to-99": time_table,
    "accuracy": accuracy_table,
    "exports": exports_table,
    "scaling": scaling_table,
    "training": training_table,
    "hands": hands_table,
    "reading": reading_table,
    "pages": pages_table,
    "reliability": reliability_table,
    "load": load_table,
    "bulk-speed": bulk_speed_table,
    "bulk-cost": bulk_cost_table,
    "bulk-memory": bulk_memory_table,
}


def filled(text: str) -> str:
    """Puts the tables between their markers."""
    return re.sub(
        r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)",
        lambda marked: marked[1] + TABLES[marked[2]]() + "\n" + marked[3],
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    stale = False
    for document in DOCUMENTS:
        before = document.read_text()
        after = filled(before)
        stale = stale or before != after
        if not arguments.check:
            document.write_text(after)
    return int(arguments.check and stale)


if __name__ == "__main__":
    sys.exit(main())

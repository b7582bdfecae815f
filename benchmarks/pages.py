"""Pages composed from MNIST's test digits, so that the truth is known, under each condition.

    python benchmarks/pages.py [CONDITION...] [--pages N] [--again] [--bundle DIR] [--show FOLDER]
    python benchmarks/pages.py [CONDITION] --picture FILE

Prints a row a condition and strength: digit error rate, false digits, misses. It shares no code and
no parameters with `augmentation.py`; the strengths below were fixed before the reader was tuned.
It also measures calibration over all pages: how often digits read with a given confidence are
right. For that, predicted digits are matched to the true ones by position.
"""

import argparse
import copy
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import results
from PIL import Image

from digitwise.data.loading import load_dataset
from digitwise.reading.reader import Digit, Reader

WIDTH, HEIGHT = 1000, 1300
STRENGTHS = ("mild", "medium", "strong")
Page = np.ndarray  # (h, w, 3) uint8
Random = np.random.Generator

# condition → its value at the three strengths
LEVELS: dict[str, tuple[Any, Any, Any]] = {
    "plain": (None, None, None),
    "shadow": (0.3, 0.5, 0.65),  # of the light, taken away at the darkest
    "blur": (1.0, 2.0, 3.0),  # sigma in pixels, at digits 56 pixels high
    "noise": (8, 18, 30),  # sigma in grey values
    "jpeg": (50, 25, 10),  # quality
    "tilt": (5, 15, 40),  # degrees
    "perspective": (0.04, 0.09, 0.14),  # of the side, by which the corners move
    "ruled": (0.25, 0.4, 0.55),  # darkness of the lines
    "squared": (0.2, 0.3, 0.45),
    "ink": (0.55, 0.4, 0.3),  # darkness of the ink, on colored paper
    "light-on-dark": (0.9, 0.6, 0.4),  # brightness of the chalk
    "bleed-through": (0.06, 0.12, 0.18),  # darkness of the other side's print
    "touching": (0, 2, 5),  # pixels of overlap, at digits 56 pixels high
    "form": (0.3, 0.5, 0.7),  # darkness of boxes and labels
    "sideways": (90, 180, 270),  # degrees
    "size": (30, 16, 12),  # height of the digits in pixels
    "large": (90, 140, 200),
}
TOGETHER = ("shadow", "blur", "noise", "jpeg", "tilt")
GEOMETRIC = ("tilt", "perspective", "sideways")  # effects that move what is on the page
BANDS = (0.0, 0.5, 0.8, 0.95, 0.99)  # lower bounds of the confidence bands
MATCHED = 0.2  # of a digit's height: margin around its box for matching


@dataclass(frozen=True)
class Written:
    """A digit on a page as it was composed, before any effect.

    Attributes:
        text: the digit.
        left, top, right, bottom: the box of its ink, in pixels.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Composed:
    """A page with its ground truth.

    Attributes:
        page: the picture.
        lines: the text that was written.
        digits: the digits that were written.
        origins: (h, w, 3), for each pixel of the page the column and row that it had when the page
            was composed; the last channel is unused.
    """

    page: Page
    lines: list[str]
    digits: list[Written]
    origins: np.ndarray


@dataclass
class Layout:
    """How a page is written.

    Attributes:
        height: of the digits, in pixels.
        gap: between digits, in heights; negative where they overlap.
        darkness: of the ink.
        color: of the ink, RGB in 0–1, and of the paper.
        boxes: darkness of a form's boxes; None for no form.
        lines: the text that was written.
        digits: the digits that were written.
    """

    height: int = 56
    gap: float = 0.3
    darkness: float = 0.8
    color: tuple[float, float, float] = (0.1, 0.1, 0.15)
    paper: tuple[int, int, int] = (236, 234, 228)
    boxes: float | None = None
    lines: list[str] = field(default_factory=list)
    digits: list[Written] = field(default_factory=list)


def compose(x: np.ndarray, y: np.ndarray, layout: Layout, random: Random) -> Page:
    """Writes lines of digits on paper."""
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    rules = np.zeros((HEIGHT, WIDTH), np.float32)
    size = round(layout.height * 28 / 20)
    margin, top = 90, 80
    while top + size < HEIGHT - 80 and len(layout.lines) < 6:
        left, text = margin + int(random.integers(0, 60)), ""
        while left + size < WIDTH - margin and len(text) < 9:
            index = int(random.integers(0, len(x)))
            digit = cv2.resize(x[index], (size, size), interpolation=cv2.INTER_CUBIC)
            digit = np.clip((digit.astype(np.float32) - 40) / 170, 0, 1)
            columns = np.flatnonzero((digit > 0.3).any(axis=0))
            crop = digit[:, columns[0] : columns[-1] + 1]
            row = top if layout.boxes else top + int(random.integers(-3, 4))
            region = alpha[row : row + size, left : left + crop.shape[1]]
            np.maximum(region, crop, out=region)
            rows = row + np.flatnonzero((crop > 0.3).any(axis=1))
            box = (left, rows[0], left + crop.shape[1], rows[-1] + 1)
            layout.digits.append(Written(str(int(y[index])), *map(float, box)))
            if layout.boxes is not None:
                start = round(left + crop.shape[1] / 2 - size * 0.55)
                corner = (start + round(size * 1.1), top + size)
                cv2.rectangle(rules, (start, top), corner, layout.boxes, 2)
                left = start + round(size * 1.1) + 2 + round(size * 0.55 - crop.shape[1] / 2) + 8
            else:
                left += crop.shape[1] + round(layout.gap * layout.height)
            text += str(int(y[index]))
        layout.lines.append(text)
        top += round(size * 1.5)
    paper = np.array(layout.paper, np.float32)
    ink = np.array(layout.color, np.float32) * 255
    cover = alpha[..., np.newaxis] * layout.darkness
    page = paper * (1 - cover) + ink * cover
    page *= 1 - rules[..., np.newaxis]
    grain = random.normal(0, 2, (HEIGHT, WIDTH, 1))
    return np.clip(page + grain, 0, 255).astype(np.uint8)


def shadow(page: Page, darkest: float, random: Random) -> Page:
    height, width = page.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = random.uniform(0, 2 * np.pi)
    along = (columns / width - 0.5) * np.cos(angle) + (rows / height - 0.5) * np.sin(angle)
    light = 1 - darkest / (1 + np.exp(-along * random.uniform(8, 25)))
    return (page * light[..., np.newaxis]).astype(np.uint8)


def blur(page: Page, sigma: float, random: Random) -> Page:
    return cv2.GaussianBlur(page, (0, 0), sigma)


def noise(page: Page, sigma: float, random: Random) -> Page:
    return np.clip(page + random.normal(0, sigma, page.shape), 0, 255).astype(np.uint8)


def jpeg(page: Page, quality: int, random: Random) -> Page:
    buffer = io.BytesIO()
    Image.fromarray(page).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def tilt(page: Page, degrees: float, random: Random) -> Page:
    angle = degrees * random.choice([-1, 1])
    height, width = page.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = int(width * cosine + height * sine), int(width * sine + height * cosine)
    matrix[:, 2] += [(size[0] - width) / 2, (size[1] - height) / 2]
    paper = [float(value) for value in np.median(page, axis=(0, 1))]
    return cv2.warpAffine(page, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=paper)


def perspective(page: Page, share: float, random: Random) -> Page:
    height, width = page.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    moved = corners + random.uniform(0, share, (4, 2)) * inward * [width, height]
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    paper = [float(value) for value in np.median(page, axis=(0, 1))]
    size = (width, height)
    return cv2.warpPerspective(
        page, matrix, size, borderMode=cv2.BORDER_CONSTANT, borderValue=paper
    )


def ruled(page: Page, darkness: float, random: Random, squared: bool = False) -> Page:
    lines = np.zeros(page.shape[:2], np.float32)
    step = 39
    for row in range(int(random.integers(10, step)), page.shape[0], step):
        cv2.line(lines, (0, row), (page.shape[1], row), darkness, 1 + int(random.integers(0, 2)))
    if squared:
        for column in range(int(random.integers(10, step)), page.shape[1], step):
            cv2.line(lines, (column, 0), (column, page.shape[0]), darkness, 1)
    tint = np.array([1.0, 0.7, 0.35], np.float32)  # blue lines take the red away
    return (page * (1 - lines[..., np.newaxis] * tint)).astype(np.uint8)


def squared(page: Page, darkness: float, random: Random) -> Page:
    return ruled(page, darkness, random, squared=True)


def bleed_through(page: Page, darkness: float, random: Random) -> Page:
    back = np.zeros(page.shape[:2], np.uint8)
    for row in range(60, page.shape[0], 44):
        words = "".join(random.choice(list("abcdefghij lmnopqrst vwxyz"), 46))
        cv2.putText(back, words, (40, row), cv2.FONT_HERSHEY_COMPLEX, 1.0, 255, 2, cv2.LINE_AA)
    back = cv2.GaussianBlur(back[:, ::-1].astype(np.float32) / 255, (0, 0), 1.2)
    return (page * (1 - darkness * back[..., np.newaxis])).astype(np.uint8)


def sideways(page: Page, degrees: int, random: Random) -> Page:
    return np.ascontiguousarray(np.rot90(page, degrees // 90))


def form_labels(page: Page, darkness: float) -> Page:
    drawn = page.copy()
    shade = int(255 * (1 - darkness))
    for number, row in enumerate(range(60, page.shape[0] - 60, 117)):
        label = f"Item {'abcdefghijkl'[number]} name"
        place = (20, row)
        cv2.putText(
            drawn, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (shade,) * 3, 1, cv2.LINE_AA
        )
    return drawn


EFFECTS: dict[str, Callable[[Page, Any, Random], Page]] = {
    "shadow": shadow,
    "blur": blur,
    "noise": noise,
    "jpeg": jpeg,
    "tilt": tilt,
    "perspective": perspective,
    "ruled": ruled,
    "squared": squared,
    "bleed-through": bleed_through,
    "sideways": sideways,
}


def page_for(
    condition: str, strength: int, x: np.ndarray, y: np.ndarray, random: Random
) -> tuple[Page, list[str]]:
    """Composes one page under a condition."""
    composed = compose_under(condition, strength, x, y, random)
    return composed.page, composed.lines


def compose_under(
    condition: str, strength: int, x: np.ndarray, y: np.ndarray, random: Random
) -> Composed:
    """Compose one page under a condition, and record where its digits are."""
    layout = Layout()
    level = LEVELS.get(condition, (None, None, None))[strength]
    if condition in ("size", "large"):
        layout.height = level
    elif condition == "touching":
        layout.gap = -level / 56
    elif condition == "ink":
        inks = ((0.1, 0.15, 0.8), (0.75, 0.1, 0.1), (0.05, 0.45, 0.15), (0.3, 0.3, 0.3))
        papers = ((250, 240, 130), (210, 235, 250), (245, 215, 225), (230, 230, 230))
        layout.color = inks[random.integers(len(inks))]
        layout.paper = papers[random.integers(len(papers))]
        layout.darkness = level
    elif condition == "light-on-dark":
        layout.color, layout.paper, layout.darkness = (1.0, 1.0, 0.95), (38, 52, 44), level
    elif condition == "form":
        layout.boxes = level
    page = compose(x, y, layout, random)
    if condition == "form":
        page = form_labels(page, level)
    rows, columns = np.mgrid[0 : page.shape[0], 0 : page.shape[1]].astype(np.float32)
    origins = np.stack([columns, rows, rows], axis=-1)
    effects = TOGETHER if condition == "together" else (condition,)
    for effect in effects:
        if effect in EFFECTS:
            if effect in GEOMETRIC:  # the same random numbers for both
                moved = LEVELS[effect][strength], copy.deepcopy(random)
                origins = EFFECTS[effect](origins, *moved)
            page = EFFECTS[effect](page, LEVELS[effect][strength], random)
    return Composed(page, layout.lines, layout.digits, origins)


def check_digits(composed: Composed, found: list[Digit]) -> list[tuple[float, bool]]:
    """Match predicted digits to true digits by position.

    Each predicted digit is matched to the nearest true digit whose box, with a margin, contains its
    center. If several match one true digit, the nearest is kept. Unmatched digits are wrong.

    Returns:
        For each digit read, its confidence and whether it is right.
    """
    claims: dict[int, tuple[float, int]] = {}  # written digit → distance and number of the read one
    height, width = composed.page.shape[:2]
    for number, digit in enumerate(found):
        x, y, wide, high = digit.box
        column, row = min(int(x + wide / 2), width - 1), min(int(y + high / 2), height - 1)
        from_x, from_y, _ = composed.origins[row, column].tolist()
        near = []
        for index, written in enumerate(composed.digits):
            margin = MATCHED * (written.bottom - written.top)
            if not written.left - margin <= from_x <= written.right + margin:
                continue
            if not written.top - margin <= from_y <= written.bottom + margin:
                continue
            center = (written.left + written.right) / 2, (written.top + written.bottom) / 2
            near.append((float(np.hypot(from_x - center[0], from_y - center[1])), index))
        if near:
            distance, index = min(near)
            claims[index] = min(claims.get(index, (np.inf, -1)), (distance, number))
    right = {
        number
        for index, (_, number) in claims.items()
        if found[number].text == composed.digits[index].text
    }
    return [(digit.confidence, number in right) for number, digit in enumerate(found)]


def reliability(checked: list[tuple[float, bool]]) -> list[dict[str, Any]]:
    """Compare mean confidence with accuracy in each confidence band."""
    rows = []
    for low, high in itertools.pairwise([*BANDS, np.inf]):
        band = [(confidence, right) for confidence, right in checked if low <= confidence < high]
        confidence, right = np.mean(band, axis=0).tolist() if band else (None, None)
        rows.append(
            {"from": low, "digits": len(band), "mean_confidence": confidence, "right": right}
        )
    return rows


def compare(truth: str, found: str) -> tuple[int, int, int]:
    """Aligns two texts: digits read as another, digits invented, digits missed."""
    table = np.zeros((len(truth) + 1, len(found) + 1), int)
    table[:, 0], table[0] = np.arange(len(truth) + 1), np.arange(len(found) + 1)
    for i, j in itertools.product(range(1, len(truth) + 1), range(1, len(found) + 1)):
        same = truth[i - 1] == found[j - 1]
        table[i, j] = min(
            table[i - 1, j - 1] + (not same), table[i - 1, j] + 1, table[i, j - 1] + 1
        )
    i, j = len(truth), len(found)
    wrong = invented = missed = 0
    while i or j:
        same = bool(i and j and truth[i - 1] == found[j - 1])
        if i and j and table[i, j] == table[i - 1, j - 1] + (not same):
            wrong, i, j = wrong + (not same), i - 1, j - 1
        elif j and table[i, j] == table[i, j - 1] + 1:
            invented, j = invented + 1, j - 1
        else:
            missed, i = missed + 1, i - 1
    return wrong, invented, missed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    results.add_names(parser, "conditions", [*LEVELS, "together"])
    parser.add_argument("--pages", type=int, default=8, help="pages a condition and strength")
    parser.add_argument("--again", action="store_true", help="measure what is there, too")
    parser.add_argument("--bundle", default="pretrained")
    parser.add_argument("--show", type=Path, help="a folder for the pages with a mistake, drawn")
    parser.add_argument("--picture", type=Path, help="only draw one mild page as it was read")
    arguments = parser.parse_args()
    test = load_dataset("mnist", allow_sample=False).test
    assert test is not None
    reader = Reader(arguments.bundle)
    settings = {
        "bundle": reader.bundle.record["created"],
        "levels": json.loads(json.dumps(LEVELS)),
        "pages": arguments.pages,
        "min_confidence": reader.bundle.min_confidence,
    }
    is_whole = not (arguments.conditions or arguments.picture or arguments.show)
    if is_whole and not arguments.again and results.is_done("pages", settings):
        return
    if arguments.picture:
        condition = arguments.conditions[0] if arguments.conditions else "together"
        page, _ = page_for(condition, 0, test.x, test.y, np.random.default_rng(3))
        drawn = reader.read(page).draw()
        drawn.thumbnail((760, 760))
        drawn.crop((0, 0, drawn.width, round(0.62 * drawn.height))).save(arguments.picture)
        return
    rows = []
    checked: dict[str, list[tuple[float, bool]]] = {}
    for condition in arguments.conditions or [*LEVELS, "together"]:
        for strength, name in enumerate(STRENGTHS):
            if condition == "plain" and strength:
                continue
            digits = wrong = invented = missed = 0
            for number in range(arguments.pages):
                random = np.random.default_rng([number, strength, *condition.encode()])
                composed = compose_under(condition, strength, test.x, test.y, random)
                reading = reader.read(composed.page)
                checked.setdefault(condition, []).extend(check_digits(composed, reading.digits))
                truth = "".join(composed.lines)
                faults = compare(truth, reading.text.replace("\n", "").replace(" ", ""))
                digits += len(truth)
                wrong, invented, missed = (
                    a + b for a, b in zip((wrong, invented, missed), faults, strict=True)
                )
                if arguments.show and sum(faults):
                    reading.save(arguments.show / f"{condition}-{name}-{number}.png")
            rate = (wrong + invented + missed) / digits
            rows.append(
                {
                    "condition": condition,
                    "strength": name,
                    "digits": digits,
                    "error_rate": rate,
                    "wrong": wrong,
                    "false": invented,
                    "missed": missed,
                }
            )
            print(
                f"{condition:14} {name:7} {rate:7.2%}  wrong {wrong:3} false {invented:3} "
                f"missed {missed:3} of {digits}",
                flush=True,
            )
    bands = {"all": reliability(list(itertools.chain(*checked.values())))}
    if "touching" in checked:
        bands["touching"] = reliability(checked["touching"])
    print(json.dumps(bands, indent=2))
    if not arguments.conditions:
        figures = {"runs": rows, "reliability": bands}
        results.write("pages", settings, figures, "python benchmarks/pages.py")


if __name__ == "__main__":
    main()

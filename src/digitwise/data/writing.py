"""Ink on a page, what it says, and a picture of it."""

import itertools
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.data.characters import Glyph, Hand
from digitwise.data.normalization import surround
from digitwise.data.paper import cloud, draw_rules, make_paper, photograph

IGNORED = -1  # the label of characters that are cut off, or that cannot be told apart
_LEAST_VISIBLE = 0.65  # of a box; a character of which less can be seen is ignored
_INK = 60  # of 255; what is fainter does not count to a character's box
Random = np.random.Generator
Field = Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class Character:
    """A character on a page.

    Attributes:
        label: an index into CHARACTERS, or OTHER, or IGNORED.
        x: of the box's center, in pixels.
        y: likewise.
        width: of the box, in pixels.
        height: likewise.
        line: the number of the line that it stands in; the characters of a line are in order.
    """

    label: int
    x: float
    y: float
    width: float
    height: float
    line: int


@dataclass
class Writing:
    """Ink on a page, and what it says.

    Attributes:
        unit: height of the digits, in pixels.
        pen: width of the strokes, in digit heights.
        stretch: width of the characters, relative to what it would be.
        slant: shear of the characters; negative leans right.
        hands: who writes digits and signs: the first that can.
        ink: its opacity.
        unevenness: standard deviation of the log size of the characters.
        sinks: downward shift of smaller characters, as a share of the height they lack; 0.5 aligns
            them on the baseline.
        characters: what was written.
        line: the number of the current line.
        rise: by how many digit heights a character lines rise or fall.
    """

    unit: float
    pen: float
    stretch: float
    slant: float
    hands: list[Hand]
    ink: Field
    unevenness: float
    sinks: float
    characters: list[Character] = field(default_factory=list)
    line: int = 0
    rise: float = 0.04

    @property
    def width(self) -> int:
        """Width of the page, in pixels."""
        return self.ink.shape[1]

    @property
    def height(self) -> int:
        """Height of the page, in pixels."""
        return self.ink.shape[0]


def put_glyph(
    writing: Writing, glyph: Glyph, left: float, middle: float, size: float, random: Random
) -> float:
    """Put a glyph on the page; return its right edge."""
    unit = writing.unit * size
    height = max(2, round(glyph.height * unit))
    shape = glyph.ink.shape
    width = max(1, round(height * shape[1] / shape[0] * writing.stretch))
    shrinks = height < shape[0]
    ink = cv2.resize(
        glyph.ink, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    slant = writing.slant + random.normal(0, 0.04)
    if abs(slant) > 0.03 and height > 4:
        reach = abs(slant) * height
        shear = np.array([[1, slant, max(0.0, -slant * height)], [0, 1, 0]], float)
        ink = cv2.warpAffine(ink, shear, (int(width + reach + 1), height))
    edge_x, edge_y, width, height = cv2.boundingRect((ink > _INK).astype(np.uint8))
    if not height:
        return left
    ink = ink[edge_y : edge_y + height, edge_x : edge_x + width]
    x, y = round(left), round(middle + glyph.top * unit) + edge_y
    x0, x1 = max(0, x), min(writing.width, x + width)
    y0, y1 = max(0, y), min(writing.height, y + height)
    if x0 < x1 and y0 < y1:
        opacity = (ink[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32) - 30) * (1 / 170)
        region = writing.ink[y0:y1, x0:x1]
        np.maximum(region, np.minimum(opacity, 1), out=region)
        is_visible = (x1 - x0) * (y1 - y0) >= _LEAST_VISIBLE * width * height
        writing.characters.append(
            Character(
                glyph.label if is_visible else IGNORED,
                x + width / 2,
                y + height / 2,
                float(width),
                float(height),
                writing.line,
            )
        )
    return float(x + width)


def print_on_paper(
    writing: Writing, tilts: tuple[float, float], random: Random
) -> tuple[UInt8[np.ndarray, "h w"], list[Character]]:
    """Lay the ink on paper, turn the sheet a little, and take a picture of it."""
    ink, characters, shape = writing.ink, writing.characters, writing.ink.shape
    rules = draw_rules(shape, writing.unit, random) if random.random() < 0.4 else None
    turned = random.random()
    if turned < 0.7:
        degrees = random.normal(0, tilts[0] if turned < 0.5 else tilts[1])
        matrix = _perspective(shape, float(np.clip(degrees, -45, 45)), random)
        ink = cv2.warpPerspective(ink, matrix, shape[::-1])
        characters = [_moved(each, matrix, shape) for each in characters]
        if rules is not None and random.random() < 0.7:
            rules = cv2.warpPerspective(rules, matrix, shape[::-1])
    paper = make_paper(shape, random)
    strength = random.uniform(0.2, 1.0) if random.random() < 0.4 else random.uniform(0.6, 1.0)
    if random.random() < 0.2:  # a dry pen, chalk or a pencil
        grain = int(max(shape) / random.uniform(1, 4))
        gaps = cloud(shape, max(2, grain), random) < random.uniform(-1, 0)
        ink = ink * (1 - np.float32(random.uniform(0.2, 0.8)) * gaps)
    cover = ink * np.float32(strength)
    if rules is not None:
        cover = np.maximum(cover, rules * (1 - 0.3 * ink))
    if random.random() < 0.05:  # what is written on the other side
        other = cv2.GaussianBlur(ink[:, ::-1], (0, 0), writing.unit / 16)
        paper = paper * (1 - np.float32(random.uniform(0.03, 0.2)) * np.roll(other, 37, axis=0))
    dark = np.float32(random.uniform(0, 0.25) * paper.mean())
    return photograph(paper * (1 - cover) + dark * cover, random), characters


def crop_tightly(
    pixels: UInt8[np.ndarray, "h w"], characters: list[Character], random: Random
) -> tuple[UInt8[np.ndarray, "h w"], list[Character]]:
    """Crop a page to one of its lines or characters; pad it to the page's size."""
    height, width = pixels.shape
    seen = [each for each in characters if each.label != IGNORED]
    if not seen:
        return pixels, characters
    chosen = seen[random.integers(len(seen))]
    if random.random() < 0.6:
        kept = [each for each in seen if each.line == chosen.line]
    else:
        kept = [chosen]
    margin = random.uniform(0, 4, 4)
    left = max(0, int(min(each.x - each.width / 2 for each in kept) - margin[0]))
    top = max(0, int(min(each.y - each.height / 2 for each in kept) - margin[1]))
    right = min(width, int(max(each.x + each.width / 2 for each in kept) + margin[2]) + 1)
    bottom = min(height, int(max(each.y + each.height / 2 for each in kept) + margin[3]) + 1)
    crop = np.ascontiguousarray(pixels[top:bottom, left:right])
    down = int(random.integers(0, height - (bottom - top) + 1))
    across = int(random.integers(0, width - (right - left) + 1))
    rest = height - (bottom - top) - down, width - (right - left) - across
    placed = surround(crop, (down, rest[0], across, rest[1]))
    moved = [
        replace(
            each,
            label=each.label if each in kept else IGNORED,
            x=each.x - left + across,
            y=each.y - top + down,
        )
        for each in characters
        if left < each.x + each.width / 2
        and each.x - each.width / 2 < right
        and top < each.y + each.height / 2
        and each.y - each.height / 2 < bottom
    ]
    return placed, moved


def crop_page_around(
    pixels: UInt8[np.ndarray, "h w"], written: list[Character], random: Random
) -> UInt8[np.ndarray, "h w"]:
    """Crop a line's page close to its characters, and pad it to its former size."""
    height, width = pixels.shape
    left = int(random.uniform(0, max(0.0, min(each.x - each.width / 2 for each in written))))
    right = max(each.x + each.width / 2 for each in written)
    right = min(width, int(random.uniform(min(right, width), width)) + 1)
    above = int(random.uniform(0, max(0.0, min(each.y - each.height / 2 for each in written))))
    below = max(each.y + each.height / 2 for each in written)
    below = min(height, int(random.uniform(min(below, height), height)) + 1)
    page = np.ascontiguousarray(pixels[above:below, left:right])
    return surround(page, (above, height - below, left, width - right))


def _perspective(
    shape: tuple[int, ...], degrees: float, random: Random
) -> Float32[np.ndarray, "3 3"]:
    """Return a rotation about the center, seen from the side."""
    height, width = shape
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    slopes = random.normal(0, 0.06, 2) / max(shape)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [*slopes, 1]])
    center = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
    return (np.linalg.inv(center) @ turn @ center).astype(np.float32)


def _moved(
    character: Character, matrix: Float32[np.ndarray, "3 3"], shape: tuple[int, ...]
) -> Character:
    """Move a character's box as a page's points are moved."""
    half = np.array([character.width, character.height]) / 2
    corners = np.array(list(itertools.product((-1, 1), repeat=2))) * half
    center = np.array([character.x, character.y])
    points = np.c_[center + corners, np.ones(4)] @ matrix.T
    points = points[:, :2] / points[:, 2:]
    low, high = points.min(axis=0), points.max(axis=0)
    inside = np.minimum(high, shape[::-1]) - np.maximum(low, 0)
    is_visible = np.prod(np.maximum(inside, 0)) >= _LEAST_VISIBLE * np.prod(high - low)
    (x, y), (width, height) = ((low + high) / 2).tolist(), (high - low).tolist()
    label = character.label if is_visible else IGNORED
    return replace(character, label=label, x=x, y=y, width=width, height=height)

"""Handwriting fonts as hands to learn from: their digits, and their letters and signs."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from digitwise.data.catalog import DIGITS
from digitwise.data.normalization import fit_to_mnist
from digitwise.errors import DigitwiseError

# Letters and symbols that look like no digit in any common hand. Left out are those that do: B, C,
# D, F, G, I, J, L, O, Q, S, T, U, V, Y, Z, a, b, c, f, g, h, i, j, l, n, o, q, r, s, t, u, v, y, z,
# &, $, > and brackets. An arched 1 looks like an n, an open 4 like an h or a u, a roofed 5 like an
# r or a T, a barred 7 like an f or a t, an open 0 like a C.
NON_DIGITS = "AEHKMNPRWXdekmpwx@#%*=+<~"
VALIDATION = frozenset(  # hands that no training sees
    {
        "architects-daughter",
        "caveat",
        "gochi-hand",
        "homemade-apple",
        "kalam",
        "marck-script",
        "nanum-pen-script",
        "over-the-rainbow",
        "reenie-beanie",
        "yomogi",
    }
)
_SUFFIXES = {".otf", ".ttf", ".woff", ".woff2"}
_UNUSABLE = {("zcool-kuaile", "0"), ("damion", "÷"), ("zhi-mang-xing", "÷")}
_SIZE = 72  # pixels to the em
_PEN_MARGIN = 30  # pixels around a character, for slanted and thickened strokes
_PEN_CHANGES = (-2, 8)  # pixels; in three of ten cases, the pen stays as it is
_MARGIN = 48  # pixels around a character, for strokes that leave their box
_SOURCES = "SOURCES.tsv"


@dataclass(frozen=True)
class HandwritingFont:
    """A font that looks like handwriting.

    Attributes:
        path: the font file, in any format that FreeType opens.
        license: the license's name, empty if unknown.
        copyright: the copyright line, empty if unknown.
    """

    path: Path
    license: str = ""
    copyright: str = ""

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @property
    def is_for_validation(self) -> bool:
        """Whether this hand is kept back from training."""
        return self.name in VALIDATION

    def describe(self) -> dict[str, str]:
        """Return the font's name, license, copyright and digest, for a bundle's record."""
        return {
            "name": self.name,
            "license": self.license,
            "copyright": self.copyright,
            "sha256": self.digest,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @cached_property
    def _font(self) -> ImageFont.FreeTypeFont:
        """The opened font."""
        try:
            return ImageFont.truetype(str(self.path), _SIZE)
        except OSError as error:
            raise DigitwiseError(f"{self.path}: not a font that can be opened: {error}") from error

    @cached_property
    def _missing(self) -> bytes:
        """The mask of the box that stands for characters the font does not have."""
        return bytes(self._font.getmask("\U0010fffd"))

    def draw(self, character: str) -> UInt8[np.ndarray, "h w"] | None:
        """Draw a character, bright on black, cropped to its ink.

        Args:
            character: a single character.

        Returns:
            Gray levels, 72 pixels to the em; None if the font lacks the character.
        """
        mask = self._font.getmask(character)
        if (self.name, character) in _UNUSABLE or not mask.size[0] or bytes(mask) == self._missing:
            return None
        box = self._font.getbbox(character)
        size = (round(box[2]) + 2 * _MARGIN, round(box[3]) + 2 * _MARGIN)
        canvas = Image.new("L", size)
        ImageDraw.Draw(canvas).text((_MARGIN, _MARGIN), character, 255, self._font)
        ink = canvas.getbbox()
        return None if ink is None else np.asarray(canvas.crop(ink))

    def box(self, character: str) -> tuple[float, float, float, float]:
        """Return the left, upper, right and lower edge of a character's ink.

        In pixels, at 72 pixels to the em, from the point where it stands on the baseline.
        """
        left, top, right, bottom = self._font.getbbox(character, anchor="ls")
        return float(left), float(top), float(right), float(bottom)


class Glyphs:
    """Digits and other characters of handwriting fonts, drawn with random pens.

    Args:
        fonts: the fonts; characters that a font lacks are skipped.
    """

    def __init__(self, fonts: Sequence[HandwritingFont]) -> None:
        self.digits = [
            (drawn, int(character))
            for font in fonts
            for character in DIGITS
            if (drawn := font.draw(character)) is not None
        ]
        self.non_digits = [
            drawn
            for font in fonts
            for character in NON_DIGITS
            if (drawn := font.draw(character)) is not None
        ]

    def draw_digit(self, random: np.random.Generator) -> tuple[UInt8[np.ndarray, "28 28"], int]:
        """Draw a random digit; return it with its label."""
        glyph, label = self.digits[random.integers(len(self.digits))]
        return _with_random_pen(glyph, random), label

    def draw_non_digit(self, random: np.random.Generator) -> UInt8[np.ndarray, "28 28"]:
        """Draw a random letter or symbol."""
        return _with_random_pen(self.non_digits[random.integers(len(self.non_digits))], random)


def _with_random_pen(
    glyph: UInt8[np.ndarray, "h w"], random: np.random.Generator
) -> UInt8[np.ndarray, "28 28"]:
    """Thicken, slant and stretch a character, and fit it to MNIST's form."""
    drawn = np.pad(glyph, _PEN_MARGIN)
    thicker = int(random.integers(*_PEN_CHANGES))
    if thicker > 0:
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thicker, thicker))
        drawn = cv2.dilate(drawn, disk)
    height, width = drawn.shape
    slant, scale = random.uniform(-0.35, 0.35), random.uniform(0.7, 1.2)
    affine = np.array(
        [[scale, slant, (1 - scale) * width / 2 - slant * height / 2], [0.0, 1.0, 0.0]]
    )
    return fit_to_mnist(cv2.warpAffine(drawn, affine, (width, height)))


NO_GLYPHS = Glyphs(())


def find_fonts(folder: Path) -> list[HandwritingFont]:
    """Find the fonts in a folder, sorted by name.

    Args:
        folder: contains font files, and optionally a table `SOURCES.tsv` with the columns
            `file`, `license` and `copyright`.

    Raises:
        DigitwiseError: the folder does not exist or has no fonts.
    """
    if not folder.is_dir():
        raise DigitwiseError(f"{folder}: no such folder: give a folder of font files")
    known = {}
    if (folder / _SOURCES).is_file():
        with (folder / _SOURCES).open(newline="", encoding="utf-8") as table:
            known = {row["file"]: row for row in csv.DictReader(table, delimiter="\t")}
    fonts = [
        HandwritingFont(
            file,
            known.get(file.name, {}).get("license", ""),
            known.get(file.name, {}).get("copyright", ""),
        )
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not fonts:
        raise DigitwiseError(f"{folder}: has no fonts ({', '.join(sorted(_SUFFIXES))})")
    return fonts

"""Composed pages: every page is new, and says where each of its characters stands."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from digitwise.data.catalog import CHARACTERS, DIGITS, OTHER, SIGNS
from digitwise.data.characters import Digits, FontHand, PenStrokes
from digitwise.data.composition import LINE, TILE, Composer
from digitwise.data.fonts import HandwritingFont
from digitwise.data.formats import LabeledImages
from digitwise.data.writing import IGNORED

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.fixture(scope="module")
def hand(digits: tuple[np.ndarray, np.ndarray]) -> Digits:
    return Digits(LabeledImages(digits[0][:1000], digits[1][:1000]), 0)


@pytest.fixture(scope="module")
def composer(hand: Digits) -> Composer:
    return Composer(hand, [HandwritingFont(FONT)], 3)


def test_a_page_depends_on_seed_epoch_and_index_alone(hand: Digits, composer: Composer) -> None:
    fonts = [HandwritingFont(FONT)]
    page, characters = composer.compose(2, 5)
    composer.compose(0, 0)
    again, same = Composer(hand, fonts, 3).compose(2, 5)
    assert (page == again).all()
    assert characters == same
    others = [
        composer.compose(2, 6),
        composer.compose(3, 5),
        Composer(hand, fonts, 4).compose(2, 5),
    ]
    assert all((page != other).any() for other, _ in others)


def test_pages_hold_digits_signs_and_others(composer: Composer) -> None:
    pages = [composer.compose(0, index) for index in range(150)]
    labels = np.array([each.label for _, characters in pages for each in characters])
    counts = np.bincount(labels[labels != IGNORED], minlength=OTHER + 1)
    assert (counts[: len(DIGITS)] > 20).all()
    assert (counts[len(DIGITS) : OTHER] > 3).all()
    assert counts[OTHER] > 50
    without = sum(all(each.label in (OTHER, IGNORED) for each in found) for _, found in pages)
    assert 10 <= without <= 50
    assert all(page.shape == (TILE, TILE) for page, _ in pages)
    assert 15 <= sum(np.median(page) < 100 for page, _ in pages) <= 90  # light on dark, and shade


def test_boxes_lie_around_the_ink(hand: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """On white paper, without anything else, the boxes hold all ink, and touch it."""
    from digitwise.data import composition, writing

    monkeypatch.setattr(writing, "make_paper", lambda shape, _: np.ones(shape, np.float32))
    monkeypatch.setattr(writing, "draw_rules", lambda shape, *_: np.zeros(shape, np.float32))
    monkeypatch.setattr(composition, "draw_clutter", lambda *_: None)
    monkeypatch.setattr(
        writing, "photograph", lambda page, _: (255 * np.clip(page, 0, 1)).astype(np.uint8)
    )
    composer, checked = Composer(hand, [], 0), 0
    composer._kinds = {composer._write_numbers: 1.0}
    for index in range(40):
        page, characters = composer.compose(0, index)
        ink = (page.astype(int) < int(page.max()) - 40).astype(np.uint8)
        covered = np.zeros_like(ink)
        for each in characters:
            left, top = round(each.x - each.width / 2), round(each.y - each.height / 2)
            right, bottom = round(each.x + each.width / 2), round(each.y + each.height / 2)
            box = (
                slice(max(0, top - 2), max(0, bottom + 2)),
                slice(max(0, left - 2), max(0, right + 2)),
            )
            covered[box] = 1
            checked += each.label != IGNORED
            assert each.label == IGNORED or ink[box].any() or page.max() - page.min() < 60
        if ink.any():
            assert (ink & ~covered & 1).sum() <= 0.03 * ink.sum()
    assert checked > 200


def test_composed_digits_are_those_given(digits: tuple[np.ndarray, np.ndarray]) -> None:
    sevens = digits[0][digits[1] == 7][:50]
    hand = Digits(LabeledImages(sevens, np.full(50, 7, np.uint8)), 0)
    random = np.random.default_rng(0)
    glyph = hand.write("7", 0.15, random)
    assert glyph is not None
    assert glyph.label == 7
    assert (
        any(cv2.matchTemplate(seven, glyph.ink, cv2.TM_SQDIFF).min() == 0 for seven in sevens)
        or glyph.ink.shape[0] <= 28
    )


@pytest.mark.parametrize("sign", SIGNS)
def test_signs_are_drawn_where_they_stand_on_a_line(sign: str) -> None:
    drawn = [PenStrokes().write(sign, 0.1, np.random.default_rng(seed)) for seed in range(20)]
    written = FontHand(HandwritingFont(FONT)).write(sign, 0.1, np.random.default_rng(0))
    assert written is not None
    middles = []
    for glyph in drawn:
        assert glyph is not None
        assert glyph.label == CHARACTERS.index(sign) == written.label
        middles.append(glyph.top + glyph.height / 2)
    assert abs(np.median(middles) - (written.top + written.height / 2)) < 0.3


def test_a_font_that_lacks_a_character_does_not_write_it(tmp_path: Path) -> None:
    hand = FontHand(HandwritingFont(FONT))
    assert hand.write("\N{CJK UNIFIED IDEOGRAPH-4E00}", 0.1, np.random.default_rng(0)) is None


def test_lines_say_what_is_written_on_them(composer: Composer) -> None:
    lines = [composer.compose_line(0, index) for index in range(200)]
    assert all(image.shape == LINE for image, _ in lines)
    lengths = np.array([len(written) for _, written in lines])
    assert (lengths == 0).sum() < 20
    assert lengths.max() > 10
    assert all(0 <= each.label <= OTHER for _, written in lines for each in written)
    assert all(0 < each.x < LINE[1] for _, written in lines for each in written)
    again, written = composer.compose_line(0, 7)
    assert (again == lines[7][0]).all()
    assert written == lines[7][1]

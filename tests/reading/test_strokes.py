"""Strokes are drawn as a pen would."""

import pytest

import digitwise as dw
from digitwise.errors import DigitwiseError
from digitwise.reading.strokes import draw_strokes


def test_a_stroke_is_as_wide_as_asked_and_pressure_makes_it_wider() -> None:
    for pressure, width in ((0.25, 10), (0.5, 20), (1.0, 40)):
        drawn = draw_strokes([[[50, 50, pressure], [150, 50, pressure]]], 200, 100, 20)
        assert abs((drawn[:, 100] < 128).sum() - width) <= 2
    dot = draw_strokes([[[50, 50]]], 100, 100, 20)
    assert abs((dot < 128).sum() - 314) < 50


def test_a_seven_drawn_in_two_strokes_is_read() -> None:
    strokes = [[[60, 40], [130, 40], [90, 160]], [[75, 100], [125, 100]]]
    assert dw.Reader().read(draw_strokes(strokes, 200, 200, 12)).text == "7"


@pytest.mark.parametrize(
    ("strokes", "width", "stroke_width", "reason"),
    [
        ([[[1, float("nan")]]], 100, 5, "stroke 0"),
        ([[[1]]], 100, 5, "stroke 0"),
        ([[[True, 2]]], 100, 5, "stroke 0"),
        ([5], 100, 5, "stroke 0"),
        ("strokes", 100, 5, "list of strokes"),
        ([], 0, 5, "width"),
        ([], 5000, 5, "width"),
        ([], 100, 0, "stroke_width"),
        ([[[0, 0]] * 20_001], 100, 5, "points"),
    ],
)
def test_senseless_strokes_are_refused(
    strokes: object, width: int, stroke_width: float, reason: str
) -> None:
    with pytest.raises(DigitwiseError, match=reason):
        draw_strokes(strokes, width, 100, stroke_width)

"""What other hands, pens and cameras make of MNIST's digits, for training.

Everything is made from MNIST's own training images, from strokes drawn at random, and from the
letters of OpenCV's Hershey fonts; no other labelled digits are used.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, Integer, UInt8

from digitwise.data.normalization import INK_SIDE, MASS_CENTER, SIDE, fit_to_mnist

NON_DIGIT_SHARE = 1 / 8  # of a reader's training images
_LETTERS = "ACEFHKLMNPRTUVWXacdehkmnpruvwx@#%?!*=+~"  # none that a digit is written like
_HERSHEY = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_COLUMNS, _ROWS = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
_TURNS = {  # digit: the quarter turns after which it is none
    **dict.fromkeys((1, 2, 4, 5, 6, 8, 9), (1, 3)),
    **dict.fromkeys((3, 7), (1, 2, 3)),
}
_TAILED = (4, 6, 7, 9)
_OPENED = (0, 8)  # that some writers leave open at the top
Image = UInt8[np.ndarray, "28 28"]
Random = np.random.Generator


def augment_digits(x: UInt8[np.ndarray, "n 28 28"], random: Random) -> UInt8[np.ndarray, "n 28 28"]:
    """Varies digits as MNIST's own writers do: a little in form and place, and in the pen.

    Args:
        x: MNIST-like images, ink bright.
        random: decides everything.
    """
    return np.stack([_vary(image, random) for image in x])


def augment_shifts(x: UInt8[np.ndarray, "n h w"], random: Random) -> UInt8[np.ndarray, "n h w"]:
    """Shifts pictures by up to two pixels in each direction, and hides a small square of each.

    What comes into sight is 0. The square is that of DeVries and Taylor ("Improved Regularization
    of Convolutional Neural Networks with Cutout", 2017), a quarter of the side long.
    """
    count, height, width = x.shape
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = random.integers(0, 5, (2, count))
    shifted = windows[np.arange(count), down, right]
    side = height // 4
    top, left = random.integers(0, height, count), random.integers(0, width, count)
    rows, columns = np.arange(height), np.arange(width)
    hidden_rows = np.abs(np.subtract.outer(top, rows)) <= side // 2
    hidden_columns = np.abs(np.subtract.outer(left, columns)) <= side // 2
    shifted[hidden_rows[:, :, np.newaxis] & hidden_columns[:, np.newaxis]] = 0
    return shifted


def augment(
    x: UInt8[np.ndarray, "n 28 28"],
    y: Integer[np.ndarray, " n"],
    classes: int | None,
    random: Random,
) -> tuple[UInt8[np.ndarray, "n 28 28"], UInt8[np.ndarray, " n"]]:
    """Distorts digits anew, and turns an eighth of them into what is no digit.

    Args:
        x: MNIST-like images, ink bright.
        y: their labels; 1 and 7 get the flag, foot and bar that MNIST's writers seldom gave them.
        classes: how many classes of digits there are; what is no digit is labelled `classes`.
            None makes no non-digits.
        random: decides everything.

    Returns:
        As many images and labels.
    """
    images, labels = np.empty_like(x), y.astype(np.uint8)
    others = random.random(len(x)) < NON_DIGIT_SHARE
    for index in range(len(x)):
        if classes is not None and others[index]:
            images[index] = _non_digit(x, y, index, random)
            labels[index] = classes
        else:
            image = _europeanize(x[index], int(y[index]), random)
            if y[index] in _TAILED and random.random() < 0.15:
                image = _with_long_tail(image, int(y[index]), random)
            if y[index] in _OPENED and random.random() < 0.12:
                image = _with_gap(image, random)
            if random.random() < 0.10:
                image = _cut_from_neighbor(image, x[random.integers(len(x))], random)
            images[index] = distort(image, random)
    return images, labels


def non_digits(
    x: UInt8[np.ndarray, "n 28 28"],
    y: Integer[np.ndarray, " n"],
    count: int,
    random: Random,
) -> UInt8[np.ndarray, "count 28 28"]:
    """Makes pictures of what is no digit: joined and lying digits, letters, scribbles, shapes.

    Args:
        x: digits to make some of them from.
        y: their labels.
        count: how many to make.
        random: decides everything.
    """
    chosen = random.integers(0, len(x), count)
    return np.stack([_non_digit(x, y, int(index), random) for index in chosen])


# Digits


def distort(image: Image, random: Random) -> Image:
    """Writes a digit with another hand and pen: affine, elastic, stroke weight, blur."""
    image = _warp(image, random)
    draw = random.random()
    if draw < 0.20:
        image = cv2.dilate(image, _kernel(random))
    elif draw < 0.34:
        image = cv2.erode(image, np.ones((2, 2), np.uint8))
    draw = random.random()
    if draw < 0.12:
        image = cv2.GaussianBlur(image, (3, 3), random.uniform(0.4, 1.0))
    elif draw < 0.30:
        image = _coarsen(image, random)
    if random.random() < 0.08:
        image = _with_remnant(image, random)
    if random.random() < 0.04:
        image = _interrupt(image, random)
    if random.random() < 0.08:
        image = _dim(image, random)
    return image


def _warp(image: Image, random: Random) -> Image:
    """Turns, scales, shears and shifts; of some, bends strokes and shifts weight to one end.

    The elastic bending is that of Simard, Steinkraus and Platt (2003), with a coarse field.
    """
    strength = 0.4 if random.random() < 0.3 else 1.0  # many hands are much like MNIST's
    angle = np.deg2rad(strength * random.uniform(-15, 15))
    scale_x, scale_y = random.uniform(0.8, 1.15, 2) ** strength
    if random.random() < 0.2 * strength:
        scale_x *= random.uniform(0.7, 1.3)  # narrow and wide hands, and boxes that were stretched
    shear = strength * random.uniform(-0.3, 0.3)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]])
    matrix = turned @ np.diag([scale_x, scale_y])
    middle = np.array([SIDE / 2, SIDE / 2])
    shift = middle - matrix @ middle + random.uniform(-2, 2, 2)
    affine = np.column_stack([matrix, shift])
    if random.random() >= 0.35:
        return cv2.warpAffine(image, affine, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    field = random.normal(0, random.uniform(0.3, 1.0), (5, 5, 2)).astype(np.float32)
    bend = cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    inverse = cv2.invertAffineTransform(affine)
    map_x = inverse[0, 0] * _COLUMNS + inverse[0, 1] * _ROWS + inverse[0, 2] + bend[..., 0]
    map_y = inverse[1, 0] * _COLUMNS + inverse[1, 1] * _ROWS + inverse[1, 2] + bend[..., 1]
    if random.random() < 0.6:
        map_y = _uneven(map_y, random.uniform(0.6, 1.5))
    if random.random() < 0.3:
        map_x = _uneven(map_x, random.uniform(0.75, 1.33))
    return cv2.remap(
        image, map_x.astype(np.float32), map_y.astype(np.float32), interpolation=cv2.INTER_LINEAR
    )


def _vary(image: Image, random: Random) -> Image:
    """Turns, scales, shears and shifts a digit a little; bends half, two in five get a new pen."""
    angle = np.deg2rad(random.uniform(-8, 8))
    cosine, sine = np.cos(angle), np.sin(angle)
    shear, scales = random.uniform(-0.1, 0.1), random.uniform(0.93, 1.08, 2)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ [[1, shear], [0, 1]] @ np.diag(scales)
    from_middle = np.stack([_COLUMNS, _ROWS], -1) - (SIDE - 1) / 2 + random.uniform(-1, 1, 2)
    at = from_middle @ matrix.T + (SIDE - 1) / 2
    if random.random() < 0.5:
        field = random.normal(0, random.uniform(0.2, 0.6), (5, 5, 2)).astype(np.float32)
        at += cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    varied = cv2.remap(image, at.astype(np.float32), None, interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.4:
        pen = cv2.dilate if random.random() < 0.5 else cv2.erode
        share = random.uniform(0.1, 0.8)
        varied = cv2.addWeighted(pen(varied, _CROSS), share, varied, 1 - share, 0)
    return varied


def _uneven(at: Float[np.ndarray, "28 28"], power: float) -> Float[np.ndarray, "28 28"]:
    """Stretches one end of a digit and presses the other: small loops and long tails."""
    along = (at - MASS_CENTER) / INK_SIDE + 0.5
    inside = (along > 0) & (along < 1)
    bent = (np.clip(along, 0, 1) ** power - 0.5) * INK_SIDE + MASS_CENTER
    return np.where(inside, bent, at)


def _with_long_tail(image: Image, label: int, random: Random) -> Image:
    """Draws out a digit's tail, the lower end, or a 6's upper: twice as long, and it may lean."""
    upright = image[::-1] if label == 6 else image
    rows = np.flatnonzero((upright > 80).any(axis=1))
    if len(rows) < 12:
        return image
    waist = rows[0] + len(rows) * random.uniform(0.45, 0.6)
    longer, lean = random.uniform(1.4, 2.8), random.uniform(-0.35, 0.15)
    at_x, at_y = np.meshgrid(
        np.arange(-SIDE // 2, SIDE + SIDE // 2, dtype=np.float32),
        np.arange(3 * SIDE, dtype=np.float32),
    )
    below = np.maximum(at_y - waist, 0)
    drawn = cv2.remap(
        np.ascontiguousarray(upright),
        (at_x - lean * below).astype(np.float32),
        (at_y - below + below / longer).astype(np.float32),
        interpolation=cv2.INTER_LINEAR,
    )
    return fit_to_mnist(np.ascontiguousarray(drawn[::-1]) if label == 6 else drawn)


def _with_gap(image: Image, random: Random) -> Image:
    """Leaves the loop of a 0 or an 8 open, somewhere in its upper third."""
    rows, columns = np.nonzero(image > 80)
    if not len(rows):
        return image
    top, height = int(rows.min()), int(np.ptp(rows)) + 1
    at = random.choice(np.flatnonzero(rows < top + max(2, height // 3)))
    gap = np.zeros_like(image)
    cv2.circle(gap, (int(columns[at]), int(rows[at])), int(random.integers(2, 5)), 255, -1)
    return np.where(cv2.GaussianBlur(gap, (3, 3), 0) > 127, 0, image).astype(np.uint8)


def _kernel(random: Random) -> UInt8[np.ndarray, "k k"]:
    """Chooses what a stroke is thickened with."""
    if random.random() < 0.5:
        return np.ones((2, 2), np.uint8)
    return _CROSS


def _coarsen(image: Image, random: Random) -> Image:
    """Takes a picture from farther away: small, then enlarged, most often as a reader does."""
    side = int(random.integers(9, 20))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    if random.random() < 0.7:
        return fit_to_mnist(small)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _cut_from_neighbor(image: Image, neighbor: Image, random: Random) -> Image:
    """Writes a neighbor that touches or overlaps, and cuts it off again, not quite exactly."""
    mirrored = random.random() < 0.5
    own, other = (item[:, ::-1] if mirrored else item for item in (image, neighbor))
    left, right = _ink_columns(own)
    other_left, other_right = _ink_columns(other)
    canvas = np.zeros((SIDE + 8, 3 * SIDE), np.uint8)
    canvas[4 : 4 + SIDE, : right + 1] = own[:, : right + 1]
    most = (other_right - other_left) // 4  # a whole 1 beside a digit is no remnant
    start = max(left + 1, right + 1 - min(int(random.integers(-1, 4)), most))
    remnant = min(int(random.integers(-2, 3)), most)
    top, end = 4 + int(random.integers(-4, 5)), start + other_right + 1 - other_left
    region = canvas[top : top + SIDE, start:end]
    np.maximum(region, other[:, other_left : other_right + 1], out=region)
    cut = canvas[:, : max(left + 2, right + 1 + remnant)]
    return fit_to_mnist(np.ascontiguousarray(cut[:, ::-1] if mirrored else cut))


def _with_remnant(image: Image, random: Random) -> Image:
    """Leaves a bit of a neighbor's stroke, of a rule or of a box at the digit's edge."""
    along_rows = random.random() < 0.35
    upright = np.ascontiguousarray(image.T) if along_rows else image.copy()
    left, right = _ink_columns(upright)
    side = left - 1 if random.random() < 0.5 else right + 1
    top, length = random.integers(3, 18), random.integers(3, 9)
    if along_rows and random.random() < 0.5:  # underlined, or written on a rule
        top, length = random.integers(0, 9), random.integers(14, 28)
    ends = (int(side), int(top)), (int(side + random.integers(-2, 3)), int(top + length))
    marked = cv2.line(upright, *ends, int(random.integers(120, 256)), 1, cv2.LINE_AA)
    return np.ascontiguousarray(marked.T) if along_rows else marked


def _interrupt(image: Image, random: Random) -> Image:
    """Takes out a row or a column, as where a rule was removed."""
    cut = image.copy()
    at, width = int(random.integers(7, 21)), int(random.integers(1, 3))
    band = np.s_[at : at + width] if random.random() < 0.7 else np.s_[:, at : at + width]
    cut[band] = (cut[band] * random.uniform(0, 0.5)).astype(np.uint8)
    return cut


def _dim(image: Image, random: Random) -> Image:
    """Fades the ink, unevenly, with some noise."""
    faded = image * random.uniform(0.55, 0.95)
    noise = random.normal(0, random.uniform(3, 14), image.shape) * (image > 0)
    return np.clip(faded + noise, 0, 255).astype(np.uint8)


def _europeanize(image: Image, label: int, random: Random) -> Image:
    """Gives some 1s a flag and a foot, some 7s a bar, and some a short head."""
    if label == 1 and random.random() < 0.35:
        return _with_flag_and_foot(image, random)
    if label == 7:
        if random.random() < 0.15:
            image = _narrow(image, random)
        if random.random() < 0.25:
            image = _with_bar(image, random)
    return image


def _with_flag_and_foot(image: Image, random: Random) -> Image:
    """Draws a flag from the top of a 1 down to the left, a foot below it, or both."""
    rows = np.flatnonzero((image > 80).any(axis=1))
    if len(rows) < 12:
        return image
    canvas = np.zeros((44, 60), np.uint8)
    canvas[8:36, 16:44] = image
    top, bottom = float(rows[0] + 8), float(rows[-1] + 8)
    top_x = 16 + float(np.flatnonzero(image[rows[0]] > 80).mean())
    bottom_x = 16 + float(np.flatnonzero(image[rows[-1]] > 80).mean())
    height = bottom - top
    thickness = _stroke(image, random)
    kind = random.random()
    if kind < 0.85:
        share = random.uniform(0.2, 0.5)
        steepness = random.uniform(0.5 + share, 1.5)  # long and flat, it would be a 7
        reach = height * share
        end = (top_x - reach, top + 1 + reach * steepness)
        _line(canvas, (top_x, top + 1), end, thickness)
    if kind > 0.45:
        half = height * random.uniform(0.15, 0.42)
        tilt = random.uniform(-1.5, 1.5)
        left, right = bottom_x - half, bottom_x + half * random.uniform(0.7, 1.2)
        draw = random.random()
        if draw < 0.25:
            left = bottom_x
        elif draw < 0.35:
            right = bottom_x
        _line(canvas, (left, bottom + tilt), (right, bottom - tilt), thickness)
    return fit_to_mnist(canvas)


def _with_bar(image: Image, random: Random) -> Image:
    """Draws a bar across the stem of a 7."""
    rows = np.flatnonzero((image > 80).any(axis=1))
    if len(rows) < 12:
        return image
    row = int(rows[0] + len(rows) * random.uniform(0.42, 0.65))
    ink = np.flatnonzero(image[row] > 80)
    if not len(ink):
        return image
    half, tilt = random.uniform(3, 6), random.uniform(-1.5, 1.5)
    middle = float(ink.mean())
    canvas = image.copy()
    _line(canvas, (middle - half, row + tilt), (middle + half, row - tilt), _stroke(image, random))
    return canvas


def _narrow(image: Image, random: Random) -> Image:
    """Presses a digit together from its sides, around its middle."""
    scale = random.uniform(0.5, 0.8)
    press = np.array([[scale, 0, (1 - scale) * MASS_CENTER], [0, 1, 0]])
    return cv2.warpAffine(image, press, (SIDE, SIDE), flags=cv2.INTER_AREA)


def _stroke(image: Image, random: Random) -> int:
    """Guesses how thick a digit's strokes are, in pixels."""
    ink = image > 100
    outline = cv2.morphologyEx(ink.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    width = 2 * ink.sum() / max(1, int(outline.sum()))
    return int(np.clip(round(width * 1.6 + random.uniform(-0.5, 0.5)), 1, 4))


def _line(
    canvas: UInt8[np.ndarray, "h w"],
    start: tuple[float, float],
    end: tuple[float, float],
    thickness: int,
) -> None:
    """Draws a stroke onto a canvas, between pixels."""
    points = [(round(float(x) * 16), round(float(y) * 16)) for x, y in (start, end)]
    cv2.line(canvas, points[0], points[1], 255, thickness, cv2.LINE_AA, shift=4)


def _ink_columns(image: Image) -> tuple[int, int]:
    """Finds the first and the last column with ink."""
    columns = np.flatnonzero((image > 60).any(axis=0))
    return (int(columns[0]), int(columns[-1])) if len(columns) else (0, SIDE - 1)


# What is no digit


def _non_digit(
    x: UInt8[np.ndarray, "n 28 28"], y: Integer[np.ndarray, " n"], index: int, random: Random
) -> Image:
    """Makes one picture of what is no digit."""
    kind = random.random()
    if kind < 0.20 and int(y[index]) in _TURNS:
        turn = int(random.choice(_TURNS[int(y[index])]))
        return distort(np.ascontiguousarray(np.rot90(x[index], turn)), random)
    if kind < 0.48:
        return distort(_joined(x, y, index, random), random)
    if kind < 0.66:
        return distort(_letter(random), random)
    if kind < 0.83:
        return distort(_scribble(random), random)
    return _shape(random)


def _joined(
    x: UInt8[np.ndarray, "n 28 28"], y: Integer[np.ndarray, " n"], index: int, random: Random
) -> Image:
    """Writes two or three digits together in one box; often a 1 is among them, easily missed."""
    count = 2 if random.random() < 0.8 else 3
    members = [index, *random.integers(0, len(x), count - 1)]
    ones = np.flatnonzero(y == 1)
    if len(ones) and random.random() < 0.3:
        members[1] = random.choice(ones)
    random.shuffle(members)
    canvas = np.zeros((40, 96), np.uint8)
    at = 4
    for image in x[members]:
        left, right = _ink_columns(image)
        crop = image[:, left : right + 1]
        top = 6 + int(random.integers(-3, 4))
        region = canvas[top : top + SIDE, at : at + crop.shape[1]]
        np.maximum(region, crop[:, : region.shape[1]], out=region)
        at += crop.shape[1] + int(random.integers(-3, 4))
        at = max(4, at)
    return fit_to_mnist(canvas)


def _letter(random: Random) -> Image:
    """Writes a letter or a sign that no digit looks like."""
    canvas = np.zeros((96, 96), np.uint8)
    letter = _LETTERS[random.integers(len(_LETTERS))]
    font = _HERSHEY[random.integers(len(_HERSHEY))]
    thickness = int(random.integers(3, 10))
    cv2.putText(canvas, letter, (20, 66), font, 2.0, 255, thickness, cv2.LINE_AA)
    return fit_to_mnist(canvas)


def _scribble(random: Random) -> Image:
    """Draws a line that crosses itself at random."""
    points = int(random.integers(5, 14))
    corners = random.uniform(12, 84, (points, 2))
    if random.random() < 0.5:
        fine = np.linspace(0, points - 1, points * 8)
        smooth = np.column_stack(
            [np.interp(fine, np.arange(points), corners[:, axis]) for axis in range(2)]
        )
        window = np.ones(9) / 9
        corners = np.column_stack(
            [np.convolve(smooth[:, axis], window, "valid") for axis in (0, 1)]
        )
    canvas = np.zeros((96, 96), np.uint8)
    outline = np.round(corners).astype(np.int32)
    cv2.polylines(canvas, [outline], False, 255, int(random.integers(3, 10)), cv2.LINE_AA)
    return fit_to_mnist(canvas)


def _shape(random: Random) -> Image:
    """Draws a blob, a textured patch, a frame, a lying stroke, a grid or a face."""
    drawers: tuple[Callable[[UInt8[np.ndarray, "96 96"], Random], None], ...] = (
        _draw_blob,
        _draw_texture,
        _draw_texture,
        _draw_frame,
        _draw_lying_stroke,
        _draw_grid,
        _draw_face,
    )
    canvas = np.zeros((96, 96), np.uint8)
    drawers[random.integers(len(drawers))](canvas, random)
    if random.random() < 0.5:
        return fit_to_mnist(canvas)
    return cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _draw_blob(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Fills a rough polygon or an ellipse."""
    angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(4, 12))))
    radii = random.uniform(14, 44, len(angles))
    corners = 48 + np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, np.newaxis]
    cv2.fillPoly(canvas, [np.round(corners).astype(np.int32)], int(random.integers(90, 256)))


def _draw_texture(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Fills a box or a blob with stripes and cloudy grey."""
    _draw_blob(canvas, random)
    if random.random() < 0.7:
        x, y = random.integers(4, 30, 2)
        width, height = random.integers(26, 62, 2)
        cv2.rectangle(canvas, (int(x), int(y)), (int(x + width), int(y + height)), 255, -1)
    if random.random() < 0.5:
        canvas[:] = np.maximum(canvas, canvas[:, ::-1])
    cells = int(random.integers(3, 16))
    cloud = cv2.resize(random.uniform(0.15, 1, (cells, cells)), (96, 96))
    canvas[:] = (canvas * cloud).astype(np.uint8)


def _draw_frame(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draws a box or a circle with something across it."""
    thickness = int(random.integers(2, 9))
    x, y = (int(value) for value in random.integers(8, 24, 2))
    right, bottom = (int(value) for value in random.integers(60, 90, 2))
    cv2.rectangle(canvas, (x, y), (right, bottom), 255, thickness)
    cv2.line(canvas, (x, y), (right, bottom), 255, thickness, cv2.LINE_AA)
    if random.random() < 0.5:
        cv2.line(canvas, (right, y), (x, bottom), 255, thickness, cv2.LINE_AA)


def _draw_lying_stroke(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draws one or two strokes that lie rather than stand."""
    for _ in range(int(random.integers(1, 3))):
        start, end = random.integers(8, 30), random.integers(60, 88)
        row, slope = random.integers(36, 60), random.integers(-14, 15)
        ends = (int(start), int(row - slope)), (int(end), int(row + slope))
        cv2.line(canvas, *ends, 255, int(random.integers(3, 14)), cv2.LINE_AA)


def _draw_grid(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draws crossing lines."""
    thickness = int(random.integers(2, 7))
    for at in range(int(random.integers(4, 20)), 96, int(random.integers(14, 34))):
        cv2.line(canvas, (at, 6), (at, 90), 255, thickness)
        if random.random() < 0.8:
            cv2.line(canvas, (6, at), (90, at), 255, thickness)


def _draw_face(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draws a smiley."""
    thickness = int(random.integers(3, 7))
    cv2.circle(canvas, (48, 48), int(random.integers(30, 42)), 255, thickness, cv2.LINE_AA)
    for x in (36, 60):
        cv2.circle(canvas, (x, 38), int(random.integers(2, 6)), 255, -1, cv2.LINE_AA)
    bend = int(random.integers(0, 2)) * 180
    cv2.ellipse(canvas, (48, 56), (16, 10), bend, 20, 160, 255, thickness, cv2.LINE_AA)

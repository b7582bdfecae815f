"""Images that stay on disk: a selection from a memory-mapped array, converted in batches."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer, UInt8

Convert = Callable[[UInt8[np.ndarray, "n h w"]], UInt8[np.ndarray, "n h w"]]

_CHUNK = 4096  # images loaded from disk at a time


class MappedImages:
    """A selection of images from a memory-mapped array, in any order.

    Indexing with a slice or an array of indices loads those images from disk into a NumPy array.
    `np.asarray` loads all of them.

    Args:
        array: (n, h, w) uint8, memory-mapped.
        index: which images, in which order; None for all.
        convert: applied to images when they are loaded; keeps their shape. None for no conversion.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(
        self,
        array: np.ndarray,
        index: Integer[np.ndarray, " n"] | None = None,
        convert: Convert | None = None,
    ) -> None:
        self._array = array
        self._index = np.arange(len(array)) if index is None else index
        self._convert = convert

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w)."""
        return (len(self._index), *self._array.shape[1:])

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[np.ndarray]:
        for chunk in chunks(self):
            yield from chunk

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, int | np.integer):
            return self[np.array([key])][0]
        gathered = np.asarray(self._array[self._index[key]])
        return gathered if self._convert is None else self._convert(gathered)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy  # always a copy
        gathered = np.concatenate(list(chunks(self))) if len(self) else self[:]
        return gathered if dtype is None else gathered.astype(dtype, copy=False)

    def choose(self, chosen: Integer[np.ndarray, " m"]) -> "MappedImages":
        """Return some of these images, still on disk."""
        return MappedImages(self._array, self._index[chosen], self._convert)

    def converted(self, convert: Convert) -> "MappedImages":
        """Return these images with one more conversion, still on disk."""
        before = self._convert
        both: Convert = convert if before is None else lambda x: convert(before(x))
        return MappedImages(self._array, self._index, both)


if TYPE_CHECKING:
    Images = np.ndarray  # functions that take images slice them into arrays
else:
    Images = np.ndarray | MappedImages


def choose(x: Images, chosen: Integer[np.ndarray, " m"]) -> Images:
    """Select images: an array if they are in memory, otherwise still on disk.

    Args:
        x: (n, h, w) images.
        chosen: indices into them.
    """
    mapped = _mapped(x)
    return x[chosen] if mapped is None else mapped.choose(chosen)


def convert_images(x: Images, convert: Convert) -> Images:
    """Convert images: at once if they are in memory, otherwise when they are loaded from disk."""
    mapped = _mapped(x)
    return convert(x) if mapped is None else mapped.converted(convert)


def _mapped(x: Any) -> Any:
    """Return images on disk as `MappedImages`; None if they are in memory."""
    if isinstance(x, np.memmap):
        return MappedImages(x)
    return x if isinstance(x, MappedImages) else None


def chunks(x: Any, size: int = _CHUNK) -> Iterator[np.ndarray]:
    """Yield images in order, a few thousand at a time.

    Args:
        x: (n, ...) images, an array or `MappedImages`.
        size: how many at a time.
    """
    for start in range(0, len(x), size):
        yield x[start : start + size]

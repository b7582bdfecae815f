"""Split images into those for training, for validation and for testing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Integer, UInt64

from digitwise.bundle import Bundle
from digitwise.data.formats import LabeledImages
from digitwise.data.loading import Dataset, load_dataset, with_classes, with_test_set
from digitwise.data.seen import NOTHING_SEEN, SeenImages, digest_images, hold_out, selected
from digitwise.data.sources import Source
from digitwise.errors import DigitwiseError
from digitwise.messages import say
from digitwise.network.evaluation import seen_by
from digitwise.network.settings import validation_size

_MNIST_SHARE = 12_000  # of MNIST's training images, mixed with a user's own
_MOST_REPEATS = 100  # of a user's own image in an epoch
_SOURCE_HELD_OUT = 6  # one in so many of another dataset's images


@dataclass(frozen=True)
class Split:
    """The images of a training run, each with one role.

    Attributes:
        data: its training set contains the training and validation images; its test set is None if
            no unseen images are left for it.
        shown: indices of an epoch's training images; a user's own are repeated among MNIST's.
        held: indices of the images held out for validation.
        validation: how many images to hold out; 0 if none could be.
        own_images: how many images at the end of the training set are the user's own; 0 if nothing
            was mixed.
        images: what `shown` and `held` index: the training set, followed by those of `sources`.
        sources: the other datasets that are trained on, with the indices of their images.
        remembered: unseen test images of MNIST if the training set is mixed with MNIST's, to
            measure what was forgotten; None if there are none.
        seen: what the trained network has seen, over its whole chain of training runs.
    """

    data: Dataset
    shown: Integer[np.ndarray, " shown"]
    held: Integer[np.ndarray, " held"]
    validation: int
    own_images: int
    images: LabeledImages
    sources: tuple[tuple[Source, range], ...]
    remembered: LabeledImages | None
    seen: SeenImages

    @property
    def validation_images(self) -> LabeledImages:
        """The images held out, with their labels."""
        return LabeledImages(self.images.x[self.held], self.images.y[self.held])

    def within(self, indices: range) -> tuple[int, LabeledImages]:
        """Return how many different images of a range are trained on, and those held out."""
        trained, held = (
            np.unique(chosen[(chosen >= indices.start) & (chosen < indices.stop)])
            for chosen in (self.shown, self.held)
        )
        return len(trained), LabeledImages(self.images.x[held], self.images.y[held])


def split_for_training(
    loaded: Dataset,
    validation: int | None,
    seed: int,
    *,
    start: Bundle | None = None,
    teachers: Sequence[Bundle] = (),
    sources: Sequence[Source] = (),
    allow_sample: bool = True,
) -> Split:
    """Assign each image its role, deterministically.

    All copies of an image have the same role. Images that the network was trained on before are
    only trained on; those that it was validated on may be validated on again, but not tested on.

    Args:
        loaded: the data to train on.
        validation: how many images to hold out; None for the default share.
        seed: decides the splits.
        start: the bundle that training continues from; the data is then mixed with MNIST's.
        teachers: bundles that the network learns from; what they have seen is not tested on.
        sources: datasets of the same classes to train on in addition; a sixth of each is held out,
            unless `validation` is 0.
        allow_sample: whether the built-in sample may stand in for MNIST.

    Raises:
        DigitwiseError: the data has no training set, is too small, or has classes that `start`
            does not know; more than half of the images are to be held out; or `start` does not
            record which images it was trained on.
    """
    before = NOTHING_SEEN
    if start is not None:
        known = seen_by(start)
        if known is None:
            raise DigitwiseError(
                f"{start.path}: does not record which images it was trained on, so none can be "
                "held out for validation and testing: retrain it, or use --from pretrained"
            )
        before = known
    unfit_for_testing = before
    for teacher in teachers:
        taught = seen_by(teacher)
        if taught is None:
            say(f"notice: {teacher.path}: does not record which images it was trained on")
        else:
            unfit_for_testing = unfit_for_testing.extended(taught.trained, taught.validated)
    data = with_test_set(loaded, seed, unfit_for_testing)
    if data.test is None:
        say(f"notice: {data.source}: no unseen images are left to test on: no accuracy is measured")
    assert data.train is not None
    digests = digest_images(data.train.x)
    if start is not None:
        return _mixed(data, digests, validation, seed, before, unfit_for_testing, allow_sample)
    validation = validation_size(validation, len(data.train.y))
    shown, held = hold_out(data.train.y, digests, validation, seed)
    split = Split(
        data=data,
        shown=shown,
        held=held,
        validation=validation if len(held) else 0,
        own_images=0,
        images=data.train,
        sources=(),
        remembered=None,
        seen=unfit_for_testing.extended(digests[shown], digests[held]),
    )
    return _with_sources(split, sources, seed) if sources else split


def _with_sources(split: Split, sources: Sequence[Source], seed: int) -> Split:
    """Add the images of other datasets, with a part of each held out."""
    test = split.data.test
    tested = digest_images(split.images.x[:0] if test is None else test.x)
    x, y = [np.asarray(split.images.x)], [split.images.y]
    shown, held, seen = [split.shown], [split.held], split.seen
    ranges, first = [], len(split.images.y)
    for source in sources:
        images = source.dataset.train
        assert images is not None
        digests = digest_images(images.x)
        wanted = len(digests) // _SOURCE_HELD_OUT if split.validation else 0
        kept, out = hold_out(images.y, digests, wanted, seed)
        kept = kept[~np.isin(digests[kept], tested)]
        shown.append(np.tile(first + kept, source.repeats))
        held.append(first + out)
        seen = seen.extended(digests[kept], digests[out])
        x.append(np.asarray(images.x))
        y.append(images.y)
        ranges.append(range(first, first + len(digests)))
        first += len(digests)
    return replace(
        split,
        shown=np.concatenate(shown),
        held=np.concatenate(held),
        images=LabeledImages(np.concatenate(x), np.concatenate(y)),
        sources=tuple(zip(sources, ranges, strict=True)),
        seen=seen,
    )


def _mixed(
    own: Dataset,
    own_digests: UInt64[np.ndarray, " n"],
    validation: int | None,
    seed: int,
    before: SeenImages,
    unfit_for_testing: SeenImages,
    allow_sample: bool,
) -> Split:
    """Mix a user's own digits with some of MNIST's, so that nothing is forgotten.

    MNIST's part of the validation split is drawn from images that the network was never trained on.
    The rest of those are left for later training runs, as long as there are enough to train on.
    """
    mnist = load_dataset("mnist", allow_sample=allow_sample)
    assert own.train is not None
    assert mnist.train is not None
    train = with_classes(own.train, own, mnist.classes)
    test = own.test and with_classes(own.test, own, mnist.classes)
    tested = digest_images(test.x) if test is not None else own_digests[:0]

    digests = digest_images(mnist.train.x)
    order = np.random.default_rng(seed).permutation(len(digests))
    order = order[~np.isin(digests[order], np.concatenate([own_digests, tested]))]
    is_fresh = ~before.was_trained_on(digests[order])
    count = min(_MNIST_SHARE, len(order))
    validation = validation_size(validation, count + len(own_digests))
    own_held = validation * len(own_digests) // (count + len(own_digests))
    fresh = order[is_fresh]
    held, rest = np.split(fresh, [min(validation - own_held, len(fresh))])
    shown = np.concatenate([order[~is_fresh], rest])[: count - len(held)]

    kept, own_held_out = hold_out(
        train.y, own_digests, own_held, seed, ~before.was_trained_on(own_digests)
    )
    if len(held) + len(own_held_out) < validation:
        say(
            f"notice: only {len(held) + len(own_held_out):,} of {validation:,} images are held out "
            "for validation: the network was trained on the others before"
        )
    taken = np.concatenate([shown, held])
    first = len(taken)  # of the user's own
    repeats = round(len(shown) / (4 * len(kept))) if len(kept) else 1
    repeats = min(max(repeats, 1), _MOST_REPEATS)
    all_digests = np.concatenate([digests[taken], own_digests])
    all_shown = np.concatenate([np.arange(len(shown)), np.tile(first + kept, repeats)])
    all_held = np.concatenate([np.arange(len(shown), first), first + own_held_out])
    images = LabeledImages(
        np.concatenate([mnist.train.x[taken], train.x]),
        np.concatenate([mnist.train.y[taken], train.y]),
    )
    return Split(
        data=replace(
            own,
            source=f"{own.source}, mixed with MNIST ({mnist.source})",
            train=images,
            test=test,
            classes=mnist.classes,
        ),
        shown=all_shown,
        held=all_held,
        validation=validation if len(all_held) else 0,
        own_images=len(own_digests),
        images=images,
        sources=(),
        remembered=_unseen(mnist.test, unfit_for_testing.extended(all_digests)),
        seen=unfit_for_testing.extended(all_digests[all_shown], all_digests[all_held]),
    )


def _unseen(images: LabeledImages | None, seen: SeenImages) -> LabeledImages | None:
    """Return the images that were not seen; None if there are none."""
    if images is None:
        return None
    left = np.flatnonzero(~seen.was_seen(digest_images(images.x)))
    return selected(images, left) if len(left) else None

"""Diagnose why a network probably did not learn."""

import numpy as np
from jaxtyping import Int64

from digitwise.network.evaluation import Evaluation, wilson_interval
from digitwise.network.settings import OWN_NETWORK, TrainingSettings, usual_learning_rate

_MUCH_HIGHER, _MUCH_LOWER = 5, 0.02  # than the recipe's learning rate
_FEW_STEPS = 100
_FEWEST_IMAGES = 20


def warn_of_chance(evaluation: Evaluation, settings: TrainingSettings, steps: int) -> str | None:
    """Return a warning if a network is no better than always predicting the same class.

    That is so if the lower bound of its accuracy's 95% interval does not exceed the largest class's
    share of the images. With fewer than twenty images, there is no warning.

    Args:
        evaluation: on images that it was not trained on.
        settings: of its training.
        steps: how many batches it was trained on.
    """
    shown: Int64[np.ndarray, " classes"] = evaluation.confusion.sum(axis=1)
    right, images = int(evaluation.confusion.trace()), evaluation.images
    if images < _FEWEST_IMAGES or wilson_interval(right, images)[0] > shown.max() / images:
        return None
    return (
        f"the network is not measurably better than chance: {right:,} of {images:,} images right, "
        f"while the largest class has {shown.max():,}; {_likely_cause(settings, steps)}"
    )


def explain_nan(settings: TrainingSettings, epoch: int) -> str:
    """Return the error message for a loss that is not a number, with how to fix it.

    Args:
        settings: of the training.
        epoch: from 1.
    """
    usual = usual_learning_rate(settings)
    now = settings.recipe.learning_rate
    cure = f"lower --learning-rate, which is {now:g} (the recipe's is {usual:g})"
    if settings.architecture == OWN_NETWORK:
        cure += ", or check the network's layers"
    return f"the loss of epoch {epoch} is not a number: {cure}"


def explain_divergence(settings: TrainingSettings) -> str | None:
    """Say why a network has weights that no export reproduces; None where it is not the rate."""
    cure = _lower_rate(settings)
    return cure and f"training diverged: {cure}"


def _lower_rate(settings: TrainingSettings) -> str | None:
    """Return how to fix a learning rate that is far too high, None where it is not."""
    usual, now = usual_learning_rate(settings), settings.recipe.learning_rate
    if now <= _MUCH_HIGHER * usual:
        return None
    return f"lower --learning-rate: {now:g} is {now / usual:,.0f} times the recipe's {usual:g}"


def _likely_cause(settings: TrainingSettings, steps: int) -> str:
    """Return the most likely cause, and how to fix it."""
    usual, now = usual_learning_rate(settings), settings.recipe.learning_rate
    if cure := _lower_rate(settings):
        return cure
    if now < _MUCH_LOWER * usual:
        return f"raise --learning-rate: {now:g} is far below the recipe's {usual:g}"
    if steps < _FEW_STEPS:
        return f"raise --epochs: it was trained for only {steps:,} step{'s' * (steps > 1)}"
    return "check that each label belongs to its image"

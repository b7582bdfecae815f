"""What Ray Tune calls on the way; apart, since Ray is told its ways before it is imported."""

from collections.abc import Callable
from typing import Any

from ray import tune


class OnComplete(tune.Callback):
    """Calls a function whenever a training has come to its end, or was stopped.

    Args:
        call: is told how many have ended, the training's config, and what it reported last.
    """

    def __init__(self, call: Callable[[int, dict[str, Any], dict[str, Any]], None]) -> None:
        self._call = call
        self._ended = 0

    def on_trial_complete(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Is called by Tune."""
        self._ended += 1
        self._call(self._ended, trial.config, trial.last_result)

"""A recipe's optimizer with its learning rate."""

from typing import Any

from digitwise.network.backend import keras
from digitwise.network.settings import Recipe


def build_optimizer(recipe: Recipe, steps: int) -> "keras.optimizers.Optimizer":
    """Makes the optimizer of a training.

    Args:
        recipe: names optimizer, schedule, learning rate and decays.
        steps: how many the training has.
    """
    rate: Any = recipe.learning_rate
    if recipe.schedule == "one-cycle":
        rate = OneCycle(rate, steps)
    elif recipe.schedule == "cosine":
        warm_up = max(1, steps // 20)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warm_up, warmup_target=rate, warmup_steps=warm_up
        )
    if recipe.optimizer == "muon":
        return ConvolutionMuon(
            rate,
            adam_beta_2=recipe.beta_2,
            adam_weight_decay=recipe.weight_decay,
            weight_decay=recipe.weight_decay,
        )
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    if recipe.weight_decay:
        return keras.optimizers.AdamW(rate, recipe.weight_decay, beta_2=recipe.beta_2)
    return keras.optimizers.Adam(rate, beta_2=recipe.beta_2)


@keras.saving.register_keras_serializable("digitwise")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that climbs for a quarter of all steps and falls to nought, both linearly.

    The idea is Smith's ("Super-Convergence", 2018), in the plain form of one triangle.

    Args:
        peak: the highest learning rate.
        steps: how many steps the training has.
    """

    def __init__(self, peak: float, steps: int) -> None:
        self.peak = peak
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        warm_up = max(1, self.steps // 4)
        climbing = (step + 1) / warm_up
        falling = (self.steps - step) / max(1, self.steps - warm_up)
        return self.peak * keras.ops.clip(keras.ops.minimum(climbing, falling), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"peak": self.peak, "steps": self.steps}


@keras.saving.register_keras_serializable("digitwise")
class ConvolutionMuon(keras.optimizers.Muon):  # type: ignore[misc]
    """Muon for the kernels of convolutions, which Keras's own leaves to Adam.

    The step of such a kernel is the nearest matrix with orthogonal rows or columns, each filter a
    column (Jordan and others, "Muon: an optimizer for hidden layers in neural networks", 2024). A
    first layer that sees one channel, dense layers, biases and the like are left to AdamW.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 4 or variable.shape[2] == 1

    def lr_adjust(self, x: Any) -> Any:
        """Scales a step as Keras does a matrix's (Liu and others, "Muon is scalable", 2025)."""
        return x * (self.rms_rate * max(_as_matrix(x.shape)) ** 0.5)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Takes the matrix whose columns are filters for a kernel."""
        matrix = keras.ops.reshape(x, _as_matrix(x.shape))
        return keras.ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)


def _as_matrix(shape: Any) -> tuple[int, int]:
    """Gives the shape of a kernel as a matrix: what a filter sees, and how many filters."""
    height, width, channels, filters = shape
    return height * width * channels, filters

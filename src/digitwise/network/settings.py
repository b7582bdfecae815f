"""What a training is told, as plain data; known and checked before Keras is imported."""

import math
import operator
import platform
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from digitwise.errors import DigitwiseError, unknown_name


@dataclass(frozen=True)
class Recipe:
    """How an architecture is trained.

    Attributes:
        epochs: passes over the training images.
        learning_rate: the optimizer's; with a schedule, its peak.
        schedule: "constant"; "one-cycle": a quarter of all steps up, then linear to nought; or
            "cosine": a twentieth of all steps up, then a half cosine to nought.
        optimizer: "adam"; "muon" for the kernels of convolutions and Adam for the rest; or "sgd",
            gradient descent with Nesterov's momentum of 0.9.
        beta_2: Adam's decay of squared gradients.
        weight_decay: apart from the gradient, as AdamW's.
        label_smoothing: how much of each one-hot label is spread over all classes.
        patience: epochs without a lower validation loss before training stops (never before
            its minimum of steps) and the best weights are taken; None runs to the end and takes
            the last.
        batch_size: images a step.
        augmentation: how `data/augmentation.py` varies the images anew each epoch: "reading", as
            other hands, pens and cameras do, with what is no digit besides, for which the network
            has one more output; "handwriting", the same without non-digits; "digits", as MNIST's
            own writers do; "shifts", by two pixels at the most, which suits other pictures, too;
            "composition", by composing pages or lines of them (`data/composition.py`); None, not at
            all.
        sources: datasets to train on in addition to MNIST, if they can be found: how many times
            an epoch shows each of their images, by name.
    """

    epochs: int
    learning_rate: float
    schedule: str = "constant"
    optimizer: str = "adam"
    beta_2: float = 0.999
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    patience: int | None = None
    batch_size: int = 128
    augmentation: str | None = None
    sources: dict[str, int] = field(default_factory=dict)

    @property
    def is_composed(self) -> bool:
        """Whether the network is trained on composed pages or lines, not on single images."""
        return self.augmentation == "composition"

    @property
    def tells_non_digits(self) -> bool:
        """Whether the network has an output for what is none of the classes."""
        return self.augmentation == "reading"


_COMPOSED = Recipe(
    epochs=36,
    learning_rate=4e-3,
    schedule="cosine",
    optimizer="muon",
    weight_decay=0.02,
    batch_size=16,
    augmentation="composition",
    sources={"semeion": 1, "multiple-features": 1, "optdigits": 1},
)
RECIPES = {
    "tutorial": Recipe(epochs=15, learning_rate=1e-3, patience=4),
    "lenet5": Recipe(epochs=15, learning_rate=1e-3, patience=4),
    "fast": Recipe(
        epochs=2,
        learning_rate=0.8,
        schedule="one-cycle",
        optimizer="sgd",
        label_smoothing=0.05,
        batch_size=256,
    ),
    "reader": Recipe(
        epochs=28,
        learning_rate=4e-3,
        schedule="cosine",
        optimizer="muon",
        weight_decay=0.02,
        label_smoothing=0.05,
        augmentation="reading",
        sources={"semeion": 3, "multiple-features": 3, "optdigits": 2},
    ),
    "page": _COMPOSED,
    "line": replace(_COMPOSED, epochs=16, batch_size=32),
    "accurate": Recipe(
        epochs=14,
        learning_rate=6e-3,
        schedule="cosine",
        optimizer="muon",
        weight_decay=0.02,
        label_smoothing=0.05,
        augmentation="digits",
    ),
    "small": Recipe(
        epochs=30,
        learning_rate=1e-2,
        schedule="cosine",
        optimizer="muon",
        label_smoothing=0.02,
        augmentation="digits",
    ),
}
OWN_NETWORK = "own"
OWN_RECIPE = "tutorial"
PRECISIONS = ("auto", "float32", "bfloat16")
AUGMENTATIONS = (None, "reading", "handwriting", "digits", "shifts", "composition")
OPTIMIZERS = ("adam", "muon", "sgd")
SCHEDULES = ("constant", "one-cycle", "cosine")
_RANGES = {
    "epochs": (1, 100_000),
    "batch-size": (1, 1_000_000),
    "validation": (0, 1_000_000_000),
    "seed": (0, 2**32 - 1),
    "minimum-steps": (0, 1_000_000_000),
}
_FINE_TUNING_RATE = 0.1  # of the recipe's learning rate
_VALIDATION_SHARE = 12  # of 60,000 images: 5,000
_MOST_VALIDATION = 5000


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides what a training comes to.

    Attributes:
        architecture: one of RECIPES, or "own" for a network that the caller declared.
        network: the caller's network as Keras writes its config, None for a named one.
        dataset: the data's name.
        path: where the caller's own data lies, None for data found by name.
        allow_sample: whether the built-in sample may stand in for MNIST.
        digests: SHA-256 of each array, as an IDX file holds it.
        epochs: as asked for, see `total_epochs`; below 1, the share of the images that one epoch
            shows.
        batch_size: images a step.
        validation: how many training images are held out.
        seed: decides initial weights, dropout, the splits and the order of images.
        precision: "float32" or "bfloat16", of the computation; weights are always float32.
        minimum_steps: epochs are added until a training has as many steps.
        training_images: how many an epoch shows, repeats counted.
        start: the bundle that the training continues from, None for fresh weights.
        own_images: how many of the training images, the last ones, are the user's own among
            MNIST's; 0 where nothing was mixed.
        teachers: bundles whose answers are learned besides the labels.
        recipe: how the architecture is trained.
        class_names: the catalog dataset whose class names the data in `path` uses, if any.
        sources: the recipe's sources that were found, by name, with the digests of their arrays.
        fonts: the folder of handwriting fonts, None for `fonts/` in DIGITWISE_DATA.
        font_digests: SHA-256 of each font that is trained on, by the font's name.
    """

    architecture: str
    network: dict[str, Any] | None
    dataset: str
    path: str | None
    allow_sample: bool
    digests: dict[str, str]
    epochs: int | float
    batch_size: int
    validation: int
    seed: int
    precision: str
    minimum_steps: int
    training_images: int
    start: str | None
    own_images: int
    teachers: list[str]
    recipe: Recipe
    class_names: str | None = None
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    fonts: str | None = None
    font_digests: dict[str, str] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has, the last one perhaps smaller."""
        return math.ceil(self.training_images / self.batch_size)

    @property
    def total_epochs(self) -> int:
        """How many epochs are run: as asked for, or more where the data is small."""
        return max(math.ceil(self.epochs), math.ceil(self.minimum_steps / self.steps_per_epoch))

    @property
    def patience(self) -> int | None:
        """The recipe's patience; None where there is no validation to be patient with."""
        return self.recipe.patience if self.validation else None

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "TrainingSettings":
        """Takes the settings from plain data.

        Raises:
            DigitwiseError: a setting is missing, unknown, or of the wrong kind.
        """
        try:
            recipe = _typed(Recipe, document["recipe"])
            settings = _typed(cls, {**document, "recipe": recipe})
        except (TypeError, KeyError) as error:
            raise DigitwiseError(f"the settings do not fit this Digitwise ({error})") from error
        number_of_epochs(settings.epochs)
        for name in _RANGES.keys() - {"epochs"}:
            whole_number(name, getattr(settings, name.replace("-", "_")))
        check_precision(settings.precision)
        if settings.training_images < 1:
            raise DigitwiseError("the settings leave no images to train on")
        if settings.network is None:
            recipe_for(settings.architecture)
        if recipe.schedule not in SCHEDULES:
            raise unknown_name("schedule", recipe.schedule, SCHEDULES)
        if recipe.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", recipe.optimizer, OPTIMIZERS)
        if recipe.augmentation not in AUGMENTATIONS:
            raise unknown_name("augmentation", recipe.augmentation, AUGMENTATIONS[1:])
        return settings


def _typed(kind: Any, document: Any) -> Any:
    """Makes a dataclass from plain data, sure that each value is of its field's type."""
    if not isinstance(document, Mapping):
        raise TypeError("no JSON object")
    types = get_type_hints(kind)
    for name, value in document.items():
        if name not in types:
            raise TypeError(f"unknown: {name}")
        origin = types[name]
        allowed = get_args(origin) if isinstance(origin, UnionType) else (origin,)
        plain = tuple(get_origin(item) or item for item in allowed)
        if float in plain:
            plain += (int,)
        if not isinstance(value, plain) or (isinstance(value, bool) and bool not in plain):
            raise TypeError(f"{name} is {value!r}")
    for each in fields(kind):
        has_default = each.default is not MISSING or each.default_factory is not MISSING
        if each.name not in document and not has_default:
            raise TypeError(f"missing: {each.name}")
    return kind(**document)


def recipe_for(architecture: str) -> Recipe:
    """Looks up how an architecture is trained.

    Raises:
        DigitwiseError: no architecture goes by that name; the nearest is offered.
    """
    if architecture not in RECIPES:
        raise unknown_name("model", architecture, RECIPES)
    return RECIPES[architecture]


def fine_tuning(recipe: Recipe) -> Recipe:
    """Gives a recipe the few epochs and the low learning rate with which a network goes on."""
    rate = recipe.learning_rate * _FINE_TUNING_RATE
    return replace(
        recipe, epochs=3, learning_rate=rate, schedule="cosine", patience=None, sources={}
    )


def usual_learning_rate(settings: TrainingSettings) -> float:
    """Return the default learning rate of a training run."""
    known = settings.architecture in RECIPES
    recipe = RECIPES[settings.architecture if known else OWN_RECIPE]
    return (fine_tuning(recipe) if settings.start else recipe).learning_rate


def whole_number(name: str, value: Any) -> int:
    """Takes a whole number, NumPy's too, and refuses one out of range.

    Args:
        name: an option with a range of its own: "epochs", "batch-size", "validation", "seed" or
            "minimum-steps".
        value: what was given for it.

    Raises:
        DigitwiseError: the message names the option and its range.
    """
    lowest, highest = _RANGES[name]
    try:
        number = operator.index(value)
    except TypeError:
        raise DigitwiseError(f"--{name} {value!r} is no whole number") from None
    if not lowest <= number <= highest:
        raise DigitwiseError(f"--{name} {number} is out of range: {lowest} to {highest}")
    return number


def number_of_epochs(value: Any) -> int | float:
    """Takes a number of epochs: a whole one, or a share of one.

    Raises:
        DigitwiseError: it is neither.
    """
    if isinstance(value, float) and not value.is_integer():
        if 0 < value < 1:
            return value
        raise DigitwiseError(f"--epochs {value} is neither a whole number nor a share of one")
    return whole_number("epochs", int(value) if isinstance(value, float) else value)


def check_learning_rate(value: Any) -> float:
    """Takes a learning rate.

    Raises:
        DigitwiseError: it is no number above 0.
    """
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise DigitwiseError(f"--learning-rate {value} is no number above 0")
    return float(value)


def check_precision(precision: Any) -> None:
    """Refuses a precision that there is not.

    Raises:
        DigitwiseError: the nearest is offered.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", str(precision), PRECISIONS)


def validation_size(asked: int | None, images: int) -> int:
    """Decides how many training images are held out: as asked, else a twelfth, at most 5,000.

    Raises:
        DigitwiseError: more than half of the images were asked for.
    """
    if asked is None:
        return min(_MOST_VALIDATION, images // _VALIDATION_SHARE)
    if asked > images // 2:
        raise DigitwiseError(
            f"--validation {asked} is out of range: at most half of the {images:,} training images"
        )
    return asked


def choose_precision(asked: str) -> str:
    """Settles "auto": bfloat16 where that is faster, else float32."""
    if asked != "auto":
        return asked
    return "bfloat16" if bfloat16_is_faster() else "float32"


def bfloat16_is_faster() -> bool:
    """Tells whether this CPU has AMX for bfloat16 (on Linux x86-64).

    With AVX512_BF16 alone, networks of this size train faster in float32.
    """
    if platform.machine() != "x86_64":
        return False
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in described.splitlines() if line.startswith("flags")), "")
    return "amx_bf16" in flags.split()


def differing(settings: TrainingSettings, asked: Mapping[str, Any]) -> list[str]:
    """Lists the settings that were asked for and that a run does not have.

    Args:
        settings: the run's.
        asked: values by the settings' names; None where nothing was asked for.
    """
    known = {**vars(settings.recipe), **vars(settings)}
    return [
        f"{name.replace('_', '-')} {known[name]}, not {value}"
        for name, value in asked.items()
        if name in known and value is not None and known[name] != value
    ]

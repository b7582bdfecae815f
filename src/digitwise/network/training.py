"""train(): steps 2 to 5 in one call, and the bundle it leaves."""

import json
import math
import platform
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from digitwise.bundle import (
    FORMAT_VERSION,
    INT8_FILE,
    KERAS_FILE,
    ONNX_FILE,
    RECORD_FILE,
    Bundle,
    open_bundle,
    predict_raw,
)
from digitwise.data.augmentation import augment, non_digits
from digitwise.data.catalog import CATALOG
from digitwise.data.formats import LabeledImages
from digitwise.data.loading import (
    SAMPLE_NOTICE,
    SAMPLE_SOURCE,
    Dataset,
    load_dataset,
    mix_with_mnist,
    with_test_set,
)
from digitwise.data.preprocessing import add_channel, normalize, split
from digitwise.errors import DigitwiseError, MissingClassWarning, TakenError, missing_extra
from digitwise.messages import say
from digitwise.network.evaluation import calibrate, score
from digitwise.network.process import random_state_kept
from digitwise.network.runs import SETTINGS_FILE, OnEpoch, Run, plan_run
from digitwise.network.settings import (
    OWN_NETWORK,
    OWN_RECIPE,
    RECIPES,
    Recipe,
    TrainingSettings,
    check_learning_rate,
    check_precision,
    choose_precision,
    differing,
    fine_tuning,
    number_of_epochs,
    recipe_for,
    validation_size,
    whole_number,
)
from digitwise.storage import folder_whole, write_json

if TYPE_CHECKING:
    import keras

    from digitwise.network.checkpoints import TrainingState
    from digitwise.network.fitting import Teacher

FEWEST_SHOWN = 38_400  # images: 300 batches of 128
_AGREEMENT_IMAGES = 1000
_MOST_REPEATS = 100  # of a user's own image in an epoch
_PASSING = 0.997  # of validation digits


@random_state_kept()
def train(
    model: "str | keras.Sequential" = "tutorial",
    *,
    start: Bundle | str | Path | None = None,
    teachers: Sequence[str | Path] = (),
    dataset: str | None = None,
    path: str | Path | None = None,
    epochs: SupportsIndex | float | None = None,
    batch_size: SupportsIndex | None = None,
    validation: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    output: str | Path | None = None,
    precision: str = "auto",
    allow_sample: bool = True,
    minimum_steps: SupportsIndex | None = None,
    learning_rate: float | None = None,
    on_epoch: OnEpoch | None = None,
) -> Bundle:
    """Loads, preprocesses, trains and evaluates: the tutorial's steps 2 to 5 in one call.

    Some training images are held out for validation. A recipe with early stopping stops, and
    takes the weights of its best epoch, by their loss alone; a one-cycle recipe runs to its end.
    The test images choose nothing. Each epoch leaves a checkpoint from which `resume` continues.

    Args:
        model: "tutorial", "lenet5", "fast", "accurate", "small", "reader"; or a `keras.Sequential`
            of yours that takes (n, 28, 28, 1) and gives (n, classes) probabilities. It is compiled
            and trained in place, by the recipe of its name (`build_model` names what it builds),
            else by the tutorial's. A network that was trained before goes on from its weights;
            train it with the same seed, or the images held out may be some that it was trained on.
        start: a bundle of digits to continue from ("pretrained" is the one that ships), instead
            of a model: a few epochs at a tenth of its learning rate on the data given, among
            12,000 images of MNIST, so that it learns the new and forgets nothing.
        teachers: bundles whose mean answer the network learns besides the labels (Hinton, Vinyals
            and Dean, "Distilling the Knowledge in a Neural Network", 2015): several large networks
            in one small one.
        dataset: a name that `load_data` knows; left out, MNIST, or what `path` holds.
        path: your own data, in any format that `load_data` reads. Arrays in `.npy` files stay on
            disk, and may be larger than memory.
        epochs: passes over the training images; below 1, the share of them that is shown, once;
            left out, the recipe's.
        batch_size: images a step; left out, the recipe's.
        validation: how many training images are held out, 0 to train on all; left out, a
            twelfth and at most 5,000.
        seed: decides initial weights, dropout, splits and order; the same seed on the same CPU
            gives the same weights. (A network of your own brings its initial weights along.)
        output: the run's folder, which must not exist; left out, the first free
            `runs/<dataset>-<model>-<n>`.
        precision: "float32", "bfloat16", or "auto": bfloat16 with AMX, else float32. It is that of
            the computation; the weights are float32 always.
        allow_sample: whether the built-in sample may stand in for MNIST.
        minimum_steps: epochs are added until there are as many steps, so that small data is
            learned too; left out, 300, of `fast`, whose batches are twice as large, 150, and
            none where a share of an epoch was asked for.
        learning_rate: the highest of the schedule; left out, the recipe's.
        on_epoch: is told each epoch's figures, by the names in `history.csv`, once they are kept.

    Returns:
        The bundle, whose record has settings, data, and validation and test figures.

    Raises:
        DigitwiseError: an argument or the data is bad, or the network does not fit the data.
        MachineError: the disk is full or permission is missing.
    """
    settings, data, run = _settle(
        model,
        start,
        teachers,
        dataset,
        path,
        epochs,
        batch_size,
        validation,
        seed,
        output,
        precision,
        allow_sample,
        minimum_steps,
        learning_rate,
    )
    given = _open_network(settings) if settings.start else model
    own = None if isinstance(given, str) else given
    network = _declare(settings, data, own)
    if own is not None:
        settings = replace(settings, network=_config(network))
    while True:
        try:
            _open_run(run, settings, network)
            break
        except TakenError:
            if output is not None:
                raise
            run = plan_run(None, data.name, settings.architecture)
    with run.locked():
        return _finish(run, settings, data, network, on_epoch)


def _settle(
    model: Any,
    start: Bundle | str | Path | None,
    teachers: Sequence[str | Path],
    dataset: str | None,
    path: str | Path | None,
    epochs: SupportsIndex | float | None,
    batch_size: SupportsIndex | None,
    validation: SupportsIndex | None,
    seed: SupportsIndex,
    output: str | Path | None,
    precision: str,
    allow_sample: bool,
    minimum_steps: SupportsIndex | None,
    learning_rate: float | None,
) -> tuple[TrainingSettings, Dataset, Run]:
    """Settles what `train` was asked for: numbers, folder and data, before Keras is imported."""
    if find_spec("keras") is None:
        raise missing_extra("training", "train")
    architecture = _name_of(model)
    if start is not None:
        start = _check_start(start, model, dataset, path)
        architecture = start.architecture
    recipe = RECIPES[OWN_RECIPE] if architecture == OWN_NETWORK else recipe_for(architecture)
    if start is not None:
        recipe = fine_tuning(recipe)
    if learning_rate is not None:
        recipe = replace(recipe, learning_rate=check_learning_rate(learning_rate))
    epochs = number_of_epochs(recipe.epochs if epochs is None else epochs)
    batch_size = whole_number("batch-size", recipe.batch_size if batch_size is None else batch_size)
    validation = None if validation is None else whole_number("validation", validation)
    seed = whole_number("seed", seed)
    usual_minimum = FEWEST_SHOWN // recipe.batch_size if epochs >= 1 else 0
    minimum_steps = whole_number(
        "minimum-steps", usual_minimum if minimum_steps is None else minimum_steps
    )
    check_precision(precision)
    plan_run(output, dataset or "data", architecture)
    data = with_test_set(load_dataset(dataset, path, allow_sample=allow_sample), seed)
    own_images = 0
    if start is not None:
        own_images = len(data.train.y) if data.train is not None else 0
        data = _mix(start, data, seed, allow_sample=allow_sample)
    _check_classes(data)
    if recipe.augmentation and data.classes != CATALOG["mnist"].classes:
        say("varied by shifts alone, since these are no digits, whose other ways to vary are known")
        recipe = replace(recipe, augmentation="shifts")
    run = plan_run(output, data.name, architecture)
    assert data.train is not None
    held_out = validation_size(validation, len(data.train.y))
    kept, _ = _parts(data.train.y, held_out, seed, own_images)
    settings = TrainingSettings(
        architecture=architecture,
        network=None,
        dataset=data.name,
        path=None if path is None else str(Path(path).absolute()),
        allow_sample=allow_sample,
        digests=data.digests,
        epochs=epochs,
        batch_size=batch_size,
        validation=held_out,
        seed=seed,
        precision=choose_precision(precision),
        minimum_steps=minimum_steps,
        training_images=math.ceil(min(epochs, 1) * len(kept)),
        start=None if start is None else str(start.path.absolute()),
        own_images=own_images,
        teachers=[
            str(_check_teacher(teacher, data, recipe).path.absolute()) for teacher in teachers
        ],
        recipe=recipe,
    )
    if settings.total_epochs > math.ceil(settings.epochs):
        say(
            f"{settings.total_epochs} epochs instead of {settings.epochs}: the data is small, and "
            f"a training has at least {settings.minimum_steps} steps"
        )
    return settings, data, run


def _check_start(
    start: Bundle | str | Path, model: Any, dataset: str | None, path: str | Path | None
) -> Bundle:
    """Opens the bundle that a training continues from, sure that it reads digits."""
    if model != "tutorial":  # the default
        raise DigitwiseError("--model does not go with --from: the bundle brings its network")
    if dataset is None and path is None:
        raise DigitwiseError("--from needs --data or --dataset: what there is to learn")
    opened = start if isinstance(start, Bundle) else open_bundle(start)
    if opened.classes != CATALOG["mnist"].classes:
        raise DigitwiseError(
            f"{opened.path}: its classes are not the ten digits: --from mixes with MNIST"
        )
    return opened


def _mix(start: Bundle, own: Dataset, seed: int, *, allow_sample: bool) -> Dataset:
    """Mixes a user's digits with MNIST's; what is to be remembered is tested by what is unseen."""
    mixed = mix_with_mnist(own, seed, allow_sample=allow_sample)
    learned = start.record["dataset"]
    if SAMPLE_SOURCE in mixed.source and learned["name"] == "mnist" and not learned["sample"]:
        return replace(mixed, remembered=None)  # the sample is among what it learned
    return mixed


def _check_teacher(teacher: str | Path, data: Dataset, recipe: Recipe) -> Bundle:
    """Opens a bundle that teaches, sure that it knows the same classes."""
    opened = open_bundle(teacher)
    outputs = len(data.classes) + recipe.tells_non_digits
    if opened.classes != data.classes or opened.record["architecture"]["outputs"] != outputs:
        raise DigitwiseError(
            f"--teacher {teacher}: has other outputs than the network that is to learn from it: "
            "both are of one kind, readers or not, for the same classes"
        )
    return opened


def _teacher(settings: TrainingSettings) -> "Teacher | None":
    """Makes the teachers of a training answer as one, by their mean."""
    if not settings.teachers:
        return None
    sessions = [open_bundle(path).session for path in settings.teachers]

    def teach(x: UInt8[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n outputs"]:
        scaled = normalize(add_channel(x))
        return np.mean([predict_raw(session, scaled) for session in sessions], axis=0)

    return teach


def _open_network(settings: TrainingSettings) -> "keras.Sequential":
    """Opens the network of the bundle that a training continues from."""
    from digitwise.network.backend import keras, open_model

    assert settings.start is not None
    keras.utils.set_random_seed(settings.seed)
    return open_model(Path(settings.start) / KERAS_FILE)


def _parts(
    y: Integer[np.ndarray, " n"], validation: int, seed: int, own_images: int
) -> tuple[Integer[np.ndarray, " shown"], Integer[np.ndarray, " held"]]:
    """Splits the training images: those of an epoch, and those held out for validation.

    Of a mixture, whose last images are a user's own, these are shown so often that they are a
    fifth of the epoch.
    """
    kept, held = split(y, validation, seed)
    own = kept[kept >= len(y) - own_images]
    if not len(own):
        return kept, held
    repeats = round((len(kept) - len(own)) / (4 * len(own)))
    repeats = min(max(repeats, 1), _MOST_REPEATS)
    return np.concatenate([kept, np.tile(own, repeats - 1)]), held


@random_state_kept()
def resume(
    run: str | Path,
    asked: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Bundle:
    """Continues a training that was broken off, to the very weights it would have had.

    Args:
        run: the run's folder.
        asked: settings by name that the caller believes the run to have; a value of None asks
            for nothing.
        on_epoch: is told the figures of each epoch that was left to train.

    Returns:
        The run's bundle; at once where the run is finished.

    Raises:
        DigitwiseError: the folder is no run, the run has other settings, or its data is gone or
            has changed.
    """
    opened = Run(Path(run))
    settings = opened.read_settings()
    differences = differing(settings, asked or {})
    if differences:
        raise DigitwiseError(
            f"{opened.folder}: the run has {'; '.join(differences)}: resume without these options"
        )
    with opened.locked():
        return _continue(opened, settings, on_epoch)


def _continue(opened: Run, settings: TrainingSettings, on_epoch: OnEpoch | None) -> Bundle:
    """Finishes a run that no other process is training."""
    opened.sweep()
    if opened.bundle.is_dir():
        say(f"{opened.folder}: the run is finished")
        return open_bundle(opened.bundle)
    name = None if settings.path else settings.dataset
    data = load_dataset(name, settings.path, allow_sample=settings.allow_sample)
    data = with_test_set(data, settings.seed)
    if settings.start:
        start = open_bundle(settings.start)
        data = _mix(start, data, settings.seed, allow_sample=settings.allow_sample)
    if data.digests != settings.digests:
        raise DigitwiseError(
            f"{data.source}: the data has changed since the run {opened.folder} began: "
            "start a new run"
        )
    return _finish(opened, settings, replace(data, name=settings.dataset), None, on_epoch)


def _name_of(model: Any) -> str:
    """Names what is trained: as the caller or `build_model` did, else "own"."""
    if isinstance(model, str):
        return model
    if not hasattr(model, "layers"):
        kind = type(model).__name__
        raise DigitwiseError(f"a network is a name or a keras.Sequential, not {kind}")
    return model.name if model.name in RECIPES else OWN_NETWORK


def _check_classes(data: Dataset) -> None:
    """Refuses fewer than two classes, and warns of one without examples."""
    assert data.train is not None
    present = np.unique(data.train.y)
    if len(present) < 2:
        raise DigitwiseError(f"{data.source}: holds one class alone: training needs at least two")
    missing = [name for label, name in enumerate(data.classes) if label not in present]
    if missing:
        warnings.warn(
            f"{data.source}: no training image shows {', '.join(missing)}",
            MissingClassWarning,
            stacklevel=2,
        )


def _declare(settings: TrainingSettings, data: Dataset, own: Any = None) -> "keras.Sequential":
    """Builds the run's network, or checks the caller's."""
    from digitwise.network.architectures import build_model
    from digitwise.network.backend import keras

    assert data.train is not None
    shape = (*data.train.x.shape[1:], 1)
    outputs = len(data.classes) + settings.recipe.tells_non_digits
    if own is None and settings.network is None:
        keras.utils.set_random_seed(settings.seed)
        return build_model(settings.architecture, outputs, shape)
    if own is None:
        try:
            return keras.Sequential.from_config(settings.network)
        except (TypeError, ValueError) as error:
            raise DigitwiseError(
                "the run's network cannot be rebuilt from its settings: import the module that "
                "registers its layers, then resume from Python"
            ) from error
    keras.utils.set_random_seed(settings.seed)
    _check_fit(own, shape, outputs)
    return own


def _check_fit(own: Any, shape: tuple[int, ...], outputs: int) -> None:
    """Refuses a caller's network that does not take the data or gives no probabilities."""
    from digitwise.network.backend import keras

    if not isinstance(own, keras.Sequential):
        raise DigitwiseError(f"a network is a name or a keras.Sequential, not {type(own).__name__}")
    if not own.layers:
        raise DigitwiseError("the network has no layers")
    try:
        if not own.built:
            own.build((None, *shape))
    except (ValueError, TypeError) as error:
        raise DigitwiseError(
            f"the network does not fit images of {shape}: check kernels, strides and pools"
        ) from error
    if own.input_shape[1:] != shape or own.output_shape[1:] != (outputs,):
        raise DigitwiseError(
            f"the network takes {own.input_shape[1:]} and gives {own.output_shape[1:]}; the data "
            f"needs {shape} and {(outputs,)}"
        )
    try:
        given = keras.ops.convert_to_numpy(own(np.zeros((1, *shape), np.float32)))
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DigitwiseError(f"the network cannot take images of {shape}: {reason}") from error
    if not (np.allclose(given.sum(axis=1), 1, atol=1e-3) and (given >= 0).all()):
        raise DigitwiseError(
            "the network's outputs are no probabilities: end it with Activation('softmax')"
        )


def _config(network: "keras.Sequential") -> dict[str, Any]:
    """Writes a caller's network as plain data, sure before training that a bundle can hold it."""
    from digitwise.network.exporting import export_onnx, float32_copy

    with tempfile.TemporaryDirectory() as folder:
        blank = np.zeros((2, *network.input_shape[1:]), np.float32)
        export_onnx(float32_copy(network), Path(folder) / ONNX_FILE, blank)
    config: dict[str, Any] = json.loads(json.dumps(network.get_config()))
    return config


def _open_run(run: Run, settings: TrainingSettings, network: "keras.Sequential") -> None:
    """Makes the run's folder, with settings and first checkpoint in it from the start."""
    from digitwise.network.checkpoints import first_checkpoint, write_checkpoint

    with folder_whole(run.folder) as folder:
        write_json(folder / SETTINGS_FILE, settings.to_dict())
        write_checkpoint(Run(folder).checkpoints, first_checkpoint(network))


def _finish(
    run: Run,
    settings: TrainingSettings,
    data: Dataset,
    network: "keras.Sequential | None",
    on_epoch: OnEpoch | None,
) -> Bundle:
    """Trains what is left to train and leaves the bundle."""
    from digitwise.network.fitting import fit

    assert data.train is not None
    network = network or _declare(settings, data)
    kept, held = _parts(data.train.y, settings.validation, settings.seed, settings.own_images)
    validation = LabeledImages(data.train.x[held], data.train.y[held])
    source = f"MNIST and {data.name}" if settings.own_images else data.name
    say(
        f"training '{settings.architecture}' on {settings.training_images:,} images of {source} "
        f"({len(held):,} held out for validation), computing in {settings.precision}"
    )
    try:
        teacher = _teacher(settings)
        state = fit(network, settings, data.train, kept, validation, run, teacher, on_epoch)
    except KeyboardInterrupt:
        say(f"stopped: digitwise train --resume {run.folder} goes on")
        raise
    if not len(validation.y):
        say("no images were held out, so that confidence is not calibrated")
    return _leave_bundle(run, settings, data, network, validation, state)


def _leave_bundle(
    run: Run,
    settings: TrainingSettings,
    data: Dataset,
    network: "keras.Sequential",
    validation: LabeledImages,
    state: "TrainingState",
) -> Bundle:
    """Writes the bundle, all of it or nothing."""
    from digitwise.network.exporting import export_int8, export_onnx, float32_copy
    from digitwise.network.layers import describe_layers

    assert data.train is not None
    assert data.test is not None
    final = float32_copy(network)
    with folder_whole(run.bundle) as folder:
        final.save(folder / KERAS_FILE, include_optimizer=False)
        examples = LabeledImages(*(part[:_AGREEMENT_IMAGES] for part in data.train))
        x = normalize(add_channel(examples.x))
        export_onnx(final, folder / ONNX_FILE, x)
        layers = describe_layers(final, folder / ONNX_FILE, x[:2])
        if settings.recipe.tells_non_digits:  # it is to read pictures, which wants speed
            random = np.random.default_rng([settings.seed, 1])
            distorted, _ = augment(*examples, len(data.classes), random)
            both = np.concatenate([x, normalize(add_channel(distorted))])
            try:
                export_int8(folder / ONNX_FILE, folder / INT8_FILE, both)
            except DigitwiseError as error:
                say(f"the bundle reads in float32, at half the speed: {error}")
        record = {
            "format_version": FORMAT_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "classes": list(data.classes),
            "input": {"shape": list(final.input_shape[1:]), "divide_by": 255},
            "architecture": {
                "name": settings.architecture,
                "parameters": final.count_params(),
                "outputs": final.output_shape[-1],
                "layers": layers,
            },
            "settings": settings.to_dict(),
            "dataset": {
                "name": data.name,
                "source": data.source,
                "sample": data.is_sample,
                "digests": data.digests,
                "split_seed": data.split_seed,
                "whole_digests": data.whole_digests,
                "train_images": len(data.train.y),
                "test_images": len(data.test.y),
            },
            "notice": SAMPLE_NOTICE if data.is_sample else None,
            "calibration": {"temperature": 1.0, "fitted_on": None},
            "rejection": None,
            "validation": None,
            "seconds": round(state.seconds, 3),
            "history": state.history,
            "packages": _packages(),
        }
        unfinished = Bundle(folder, record)
        if len(validation.y):
            record["calibration"] = {
                "temperature": calibrate(unfinished, validation),
                "fitted_on": "validation",
            }
            record["validation"] = score(unfinished, validation, data.name, "validation").summary()
            if settings.recipe.tells_non_digits:
                record["rejection"] = _rejection(unfinished, validation, settings.seed)
        tested = score(unfinished, data.test, data.name, data.source)
        record["test"] = tested.summary()
        if settings.start is not None:
            record["fine_tuning"] = _fine_tuning_record(settings, data, unfinished, tested.accuracy)
        write_json(folder / RECORD_FILE, record)
    return open_bundle(run.bundle)


def _fine_tuning_record(
    settings: TrainingSettings, data: Dataset, bundle: Bundle, accuracy: float
) -> dict[str, Any]:
    """Compares the network with the one that it continued from: on the new data and on MNIST."""
    assert data.test is not None
    assert settings.start is not None
    before = open_bundle(settings.start)
    remembered = data.remembered and [
        score(reader, data.remembered, "mnist", "MNIST").accuracy for reader in (before, bundle)
    ]
    return {
        "from": settings.start,
        "own_images": settings.own_images,
        "own_test": [score(before, data.test, data.name, data.source).accuracy, accuracy],
        "mnist_test": remembered,
    }


def _rejection(bundle: Bundle, validation: LabeledImages, seed: int) -> dict[str, float]:
    """Sets above which probability of being no digit a picture is none.

    As many validation digits pass as `_PASSING` says; the shares of made-up non-digits are told.
    """
    random = np.random.default_rng([seed, 0])
    made_up = non_digits(validation.x, validation.y, len(validation.y), random)
    of_digits, of_others = (
        bundle.outputs(normalize(add_channel(x)))[:, -1] for x in (validation.x, made_up)
    )
    threshold = max(0.02, min(0.5, float(np.quantile(of_digits, _PASSING))))
    return {
        "threshold": round(threshold, 4),
        "digits_passing": float((of_digits <= threshold).mean()),
        "non_digits_passing": float((of_others <= threshold).mean()),
    }


def _packages() -> dict[str, str]:
    """Names the versions that decide a training's outcome."""
    from digitwise.network.backend import keras

    names = ["digitwise", "numpy", "onnxruntime"]
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": f"{keras.backend.backend()} {_backend_version(keras.backend.backend())}",
        **{name: version(name) for name in names},
    }


def _backend_version(backend: str) -> str:
    """Returns the version of Keras's backend."""
    import importlib

    return str(importlib.import_module(backend).__version__)

"""train(): steps 2 to 5 in one call, and the bundle it leaves."""

import json
import math
import platform
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.bundle import (
    FORMAT_VERSION,
    INT8_FILE,
    KERAS_FILE,
    ONNX_FILE,
    RECORD_FILE,
    SEEN_FILE,
    Bundle,
    open_bundle,
    open_classifier,
    predict_raw,
)
from digitwise.data.augmentation import augment
from digitwise.data.catalog import CATALOG
from digitwise.data.fonts import Glyphs, HandwritingFont
from digitwise.data.formats import LabeledImages
from digitwise.data.loading import SAMPLE_NOTICE, Dataset, load_dataset
from digitwise.data.non_digits import non_digits
from digitwise.data.preprocessing import add_channel, normalize
from digitwise.data.sources import Source, describe, find_sources, find_training_fonts
from digitwise.errors import (
    DigitwiseError,
    MissingClassWarning,
    TakenError,
    missing_extra,
    wrong_type,
)
from digitwise.messages import say
from digitwise.network.diagnosis import explain_divergence, warn_of_chance
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
    whole_number,
)
from digitwise.network.splitting import Split, split_for_training
from digitwise.storage import folder_whole, write_json

if TYPE_CHECKING:
    import keras

    from digitwise.data.composition import Composer
    from digitwise.network.checkpoints import TrainingState
    from digitwise.network.classification import Teacher

FEWEST_SHOWN = 38_400  # images: 300 batches of 128
_AGREEMENT_IMAGES = 1000
_FEWEST_TO_CALIBRATE = 100  # images; with fewer, a fine-tuned network keeps its calibration
COMPOSED = {"page": 8192, "line": 16_384}  # tiles or lines that an epoch shows
_EXAMPLES = 64  # composed tiles or lines that a network and its exports are compared on
_PASSING = 0.999  # of validation digits
_MIN_CONFIDENCES = 0.4, 0.5  # below, marks are read as digits; above, digits are missed


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
    fonts: str | Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> Bundle:
    """Loads, preprocesses, trains and evaluates: the tutorial's steps 2 to 5 in one call.

    Some training images are held out for validation. A recipe with early stopping stops, and
    takes the weights of its best epoch, by their loss alone; a one-cycle recipe runs to its end.
    The test images choose nothing. Each epoch leaves a checkpoint from which `resume` continues.
    No image or copy of it is in more than one of the three sets; the bundle keeps digests of the
    training and validation images.

    Args:
        model: "tutorial", "lenet5", "fast", "accurate", "small" or "reader"; "page" or "line",
            which are trained on composed pages or lines; or a `keras.Sequential` of yours that
            takes (n, 28, 28, 1) and gives (n, classes) probabilities. It is compiled and trained in
            place, by the recipe of its name (`build_model` names what it builds),
            else by the tutorial's; a "reader" without an output for non-digits learns none.
            A network that was trained before continues from its weights;
            train it with the same seed, or the images held out may be some that it was trained on.
        start: a bundle of digits to continue from ("pretrained" is the one that ships), instead
            of a model: a few epochs at a tenth of its learning rate on the data given, among
            12,000 images of MNIST, so that it learns the new digits and forgets nothing.
            Images that it was trained on before are not used for validation or testing.
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
        fonts: a folder of handwriting fonts to train the reader on; by default `fonts/` in the
            folder that DIGITWISE_DATA names, if there is one.
        on_epoch: is told each epoch's figures, by the names in `history.csv`, once they are kept.

    Returns:
        The bundle, whose record has settings, data, and validation and test figures; "test" is
        None if no unseen images are left to test on, and "warning" is set if the network is no
        better than chance.

    Raises:
        DigitwiseError: an argument or the data is bad, or the network does not fit the data.
        MachineError: the disk is full or permission is missing.
    """
    settings, split, run = _settle(
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
        fonts,
    )
    given = _open_network(settings) if settings.start else model
    own = None if isinstance(given, str) else given
    network = _declare(settings, split.data, own)
    if own is not None:
        settings = replace(settings, network=_config(network))
    while True:
        try:
            _open_run(run, settings, network)
            break
        except TakenError:
            if output is not None:
                raise
            run = plan_run(None, split.data.name, settings.architecture)
    with run.locked():
        return _finish(run, settings, split, network, on_epoch)


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
    fonts: str | Path | None,
) -> tuple[TrainingSettings, Split, Run]:
    """Settles what `train` was asked for: numbers, folder and data, before Keras is imported."""
    if find_spec("keras") is None:
        raise missing_extra("training", "train")
    if isinstance(teachers, str | Path | Bundle):
        raise wrong_type("teachers", teachers, "a list of the paths of bundles")
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
    is_long = recipe.is_composed or epochs < 1
    usual_minimum = 0 if is_long else FEWEST_SHOWN // recipe.batch_size
    minimum_steps = whole_number(
        "minimum-steps", usual_minimum if minimum_steps is None else minimum_steps
    )
    check_precision(precision)
    if fonts is not None:
        _find_fonts(fonts, recipe)  # refused before data is loaded
    plan_run(output, dataset or "data", architecture)
    taught_by = [open_classifier(teacher) for teacher in teachers]
    loaded = load_dataset(dataset, path, allow_sample=allow_sample)
    if loaded.name != "mnist":
        if recipe.is_composed:
            raise DigitwiseError(
                f"--model {architecture} composes pages from MNIST and handwriting fonts: it goes "
                "neither with --data nor with --dataset"
            )
        recipe = replace(recipe, sources={})
    split = split_for_training(
        loaded,
        validation,
        seed,
        start=start,
        teachers=taught_by,
        sources=find_sources(recipe.sources, download=not loaded.is_sample),
        allow_sample=allow_sample,
    )
    data = split.data
    _check_classes(data)
    examples = COMPOSED[architecture] if recipe.is_composed else len(split.shown)
    if recipe.augmentation and data.classes != CATALOG["mnist"].classes:
        say("varied by shifts alone, since these are no digits, whose other ways to vary are known")
        recipe = replace(recipe, augmentation="shifts")
    if recipe.tells_non_digits and _outputs_of(model) == len(data.classes):
        say(
            "notice: the network has no output for non-digits, so it learns none: "
            f"build_model('{architecture}', {len(data.classes) + 1}) has one"
        )
        recipe = replace(recipe, augmentation="handwriting")
    for name, teacher in zip(teachers, taught_by, strict=True):
        _check_teacher(name, teacher, data, recipe)
    run = plan_run(output, data.name, architecture)
    settings = TrainingSettings(
        architecture=architecture,
        network=None,
        dataset=data.name,
        path=None if path is None else str(Path(path).absolute()),
        allow_sample=allow_sample,
        digests=data.digests,
        epochs=epochs,
        batch_size=batch_size,
        validation=split.validation,
        seed=seed,
        precision=choose_precision(precision),
        minimum_steps=minimum_steps,
        training_images=math.ceil(min(epochs, 1) * examples),
        start=None if start is None else str(start.path.absolute()),
        own_images=split.own_images,
        teachers=[str(teacher.path.absolute()) for teacher in taught_by],
        recipe=recipe,
        class_names=None if path is None else dataset,
        sources=_source_digests(source for source, _ in split.sources),
        fonts=None if fonts is None else str(Path(fonts).absolute()),
        font_digests=_font_digests(_find_fonts(fonts, recipe)),
    )
    if settings.total_epochs > math.ceil(settings.epochs):
        say(
            f"{settings.total_epochs} epochs instead of {settings.epochs}: the data is small, and "
            f"a training has at least {settings.minimum_steps} steps"
        )
    return settings, split, run


def _source_digests(sources: Iterable[Source]) -> dict[str, dict[str, str]]:
    """Return the digests of each source's arrays, by its name."""
    return {source.dataset.name: source.dataset.digests for source in sources}


def _font_digests(fonts: Iterable[HandwritingFont]) -> dict[str, str]:
    """Return the digest of each font file, by the font's name."""
    return {font.name: font.digest for font in fonts}


def _find_fonts(folder: str | Path | None, recipe: Recipe) -> list[HandwritingFont]:
    """Find the fonts that a recipe trains on.

    Raises:
        DigitwiseError: the recipe does not use fonts, or the folder has none.
    """
    if recipe.augmentation not in ("reading", "handwriting", "composition"):
        if folder is not None:
            raise DigitwiseError(
                "--fonts needs --model reader, page or line: others do not use fonts"
            )
        return []
    return find_training_fonts(None if folder is None else Path(folder))


def _open_fonts(settings: TrainingSettings) -> list[HandwritingFont]:
    """Open the fonts of a run.

    Raises:
        DigitwiseError: the folder is missing or its fonts have changed since the run began.
    """
    if not settings.font_digests:
        return []
    fonts = find_training_fonts(None if settings.fonts is None else Path(settings.fonts))
    if _font_digests(fonts) != settings.font_digests:
        raise DigitwiseError(
            f"{settings.fonts or 'fonts/ in DIGITWISE_DATA'}: the fonts have changed since the run "
            "began: restore them, or start a new run"
        )
    return fonts


def _outputs_of(model: Any) -> int | None:
    """Return how many outputs a caller's network has; None for a name, or before it is built."""
    return getattr(model, "output_shape", (None,))[-1] if getattr(model, "built", False) else None


def _check_start(
    start: Bundle | str | Path, model: Any, dataset: str | None, path: str | Path | None
) -> Bundle:
    """Opens the bundle that a training continues from, sure that it reads digits."""
    if model != "tutorial":  # the default
        raise DigitwiseError("--model does not go with --from: the bundle brings its network")
    if dataset is None and path is None:
        raise DigitwiseError("--from needs --data or --dataset: what there is to learn")
    opened = open_classifier(start)
    if opened.classes != CATALOG["mnist"].classes:
        raise DigitwiseError(
            f"{opened.path}: its classes are not the ten digits: --from mixes with MNIST"
        )
    return opened


def _check_teacher(name: str | Path, teacher: Bundle, data: Dataset, recipe: Recipe) -> None:
    """Refuse a teacher whose classes or outputs differ from its student's."""
    outputs = len(data.classes) + recipe.tells_non_digits
    if teacher.classes != data.classes or teacher.record["architecture"]["outputs"] != outputs:
        raise DigitwiseError(
            f"--teacher {name}: has other outputs than the network that is to learn from it: "
            "both are of one kind, readers or not, for the same classes"
        )


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
    if not isinstance(run, str | Path):
        raise wrong_type("run", run, "the folder of a run that train() started")
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
    name = settings.class_names if settings.path else settings.dataset
    repeats = {source: settings.recipe.sources[source] for source in settings.sources}
    sources = find_sources(repeats, download=True)
    split = split_for_training(
        load_dataset(name, settings.path, allow_sample=settings.allow_sample),
        settings.validation,
        settings.seed,
        sources=sources,
        start=open_bundle(settings.start) if settings.start else None,
        teachers=[open_bundle(teacher) for teacher in settings.teachers],
        allow_sample=settings.allow_sample,
    )
    if split.data.digests != settings.digests:
        raise DigitwiseError(
            f"{split.data.source}: the data has changed since the run {opened.folder} began: "
            "start a new run"
        )
    if _source_digests(sources) != settings.sources:
        raise DigitwiseError(
            f"{opened.folder}: {', '.join(settings.sources)} are missing or have changed since the "
            "run began: restore them, or start a new run"
        )
    split = replace(split, data=replace(split.data, name=settings.dataset))
    return _finish(opened, settings, split, None, on_epoch)


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


def _declare(settings: TrainingSettings, data: Dataset, own: Any = None) -> "keras.Model":
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


def _open_run(run: Run, settings: TrainingSettings, network: "keras.Model") -> None:
    """Makes the run's folder, with settings and first checkpoint in it from the start."""
    from digitwise.network.checkpoints import first_checkpoint, write_checkpoint

    with folder_whole(run.folder) as folder:
        write_json(folder / SETTINGS_FILE, settings.to_dict())
        write_checkpoint(Run(folder).checkpoints, first_checkpoint(network))


def _finish(
    run: Run,
    settings: TrainingSettings,
    split: Split,
    network: "keras.Model | None",
    on_epoch: OnEpoch | None,
) -> Bundle:
    """Trains what is left to train and leaves the bundle."""
    from digitwise.network.classification import classification_task
    from digitwise.network.fitting import fit

    data, validation = split.data, split.validation_images
    assert data.train is not None
    network = network or _declare(settings, data)
    source = (
        f"MNIST and {data.name}"
        if settings.own_images
        else ", ".join([data.name, *settings.sources])
    )
    fonts = _open_fonts(settings)
    kind = f"composed {settings.architecture}s" if settings.recipe.is_composed else "images"
    say(
        f"training '{settings.architecture}' on {settings.training_images:,} {kind} of {source} "
        f"({len(split.held):,} held out for validation), computing in {settings.precision}"
    )
    try:
        if settings.recipe.is_composed:
            from digitwise.network.lines import line_task
            from digitwise.network.pages import page_task

            make_task = {"page": page_task, "line": line_task}[settings.architecture]
            composer = _composer(settings, split, fonts)
            task = make_task(settings, composer, _held_out_composer(settings, split))
        else:
            task = classification_task(
                network.output_shape[-1],
                settings,
                split.images,
                split.shown,
                validation,
                _teacher(settings),
                Glyphs(fonts),
            )
        state = fit(network, settings, task, run, on_epoch)
    except KeyboardInterrupt:
        say(f"stopped: digitwise train --resume {run.folder} goes on")
        raise
    if not len(validation.y) and settings.start is None:
        say("no images were held out, so that confidence is not calibrated")
    return _leave_bundle(run, settings, split, network, state, fonts)


def _composer(
    settings: TrainingSettings, split: Split, fonts: Sequence[HandwritingFont]
) -> "Composer":
    """Return the composer of the training pages or lines."""
    from digitwise.data.characters import Digits
    from digitwise.data.composition import Composer

    chosen = np.unique(split.shown)
    trained = LabeledImages(split.images.x[chosen], split.images.y[chosen])
    return Composer(Digits(trained, settings.seed), fonts, settings.seed)


def _held_out_composer(settings: TrainingSettings, split: Split) -> "Composer":
    """Return the composer of the validation pages or lines, with held-out digits and no fonts."""
    from digitwise.data.characters import Digits
    from digitwise.data.composition import Composer

    seed = settings.seed + 1
    return Composer(Digits(split.validation_images, seed), [], seed)


def _leave_bundle(
    run: Run,
    settings: TrainingSettings,
    split: Split,
    network: "keras.Model",
    state: "TrainingState",
    fonts: Sequence[HandwritingFont],
) -> Bundle:
    """Write the bundle, all of it or nothing."""
    from digitwise.network.exporting import float32_copy

    final = float32_copy(network)
    with folder_whole(run.bundle) as folder:
        final.save(folder / KERAS_FILE, include_optimizer=False)
        export = _export_composed if settings.recipe.is_composed else _export_classifier
        try:
            described = export(final, folder, settings, split)
        except DigitwiseError as error:
            raise DigitwiseError(explain_divergence(settings) or str(error)) from error
        record = _record(settings, split, state, fonts) | described
        if not settings.recipe.is_composed:
            _measure(Bundle(folder, record), settings, split, state)
        split.seen.write(folder / SEEN_FILE)
        write_json(folder / RECORD_FILE, record)
    if record["warning"]:
        say(f"warning: {record['warning']}")
    return open_bundle(run.bundle)


def _export_composed(
    final: "keras.Model", folder: Path, settings: TrainingSettings, split: Split
) -> dict[str, Any]:
    """Write the ONNX files of a page or line network; return its part of the record."""
    from digitwise.data.catalog import CHARACTERS
    from digitwise.network.exporting import export_lines, export_pages

    held_out = _held_out_composer(settings, split)
    is_page = settings.architecture == "page"
    compose = held_out.compose if is_page else held_out.compose_line
    composed = [compose(1, index)[0] for index in range(_EXAMPLES)]
    examples = normalize(add_channel(np.stack(composed)))
    (export_pages if is_page else export_lines)(final, folder, examples)
    return _describe_network(final, settings, CHARACTERS, examples.shape[1:], layers=[])


def _export_classifier(
    final: "keras.Model", folder: Path, settings: TrainingSettings, split: Split
) -> dict[str, Any]:
    """Write a classifier's ONNX files; return its part of the record."""
    from digitwise.network.exporting import export_int8, export_onnx
    from digitwise.network.layers import describe_layers

    data = split.data
    assert data.train is not None
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
    return _describe_network(final, settings, data.classes, final.input_shape[1:], layers)


def _describe_network(
    final: "keras.Model",
    settings: TrainingSettings,
    classes: Sequence[str],
    shape: Sequence[int],
    layers: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return a network's part of a bundle's record."""
    return {
        "classes": list(classes),
        "input": {"shape": list(shape), "divide_by": 255},
        "architecture": {
            "name": settings.architecture,
            "parameters": final.count_params(),
            "outputs": final.output_shape[-1],
            "layers": layers,
        },
    }


def _record(
    settings: TrainingSettings,
    split: Split,
    state: "TrainingState",
    fonts: Sequence[HandwritingFont],
) -> dict[str, Any]:
    """Return a bundle's record, without the network's description and figures."""
    data = split.data
    assert data.train is not None
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": None,
        "input": None,
        "architecture": None,
        "settings": settings.to_dict(),
        "dataset": {
            "name": data.name,
            "source": data.source,
            "sample": data.is_sample,
            "digests": data.digests,
            "split_seed": data.split_seed,
            "whole_digests": data.whole_digests,
            "train_images": len(data.train.y),
            "test_images": 0 if data.test is None else len(data.test.y),
        },
        "notice": SAMPLE_NOTICE if data.is_sample else None,
        "calibration": {"temperature": 1.0, "fitted_on": None},
        "sources": None,
        "fonts": [font.describe() for font in fonts],
        "rejection": None,
        "validation": None,
        "test": None,
        "warning": None,
        "seconds": round(state.seconds, 3),
        "history": state.history,
        "packages": _packages(),
    }


def _measure(
    bundle: Bundle, settings: TrainingSettings, split: Split, state: "TrainingState"
) -> None:
    """Calibrate a classifier, and add its figures to its record."""
    data, validation, record = split.data, split.validation_images, bundle.record
    validated = tested = None
    if len(validation.y) or settings.start is not None:
        _calibrate(bundle, validation, settings)
    if len(validation.y):
        validated = score(bundle, validation, data.name, "validation")
        record["validation"] = validated.summary()
    if data.test is not None:
        tested = score(bundle, data.test, data.name, data.source)
        record["test"] = tested.summary()
    if settings.start is not None:
        record["fine_tuning"] = _fine_tuning_record(settings, split, bundle)
    if split.sources:
        record["sources"] = _describe_sources(split, bundle)
    judged = [evaluation for evaluation in (validated, tested) if evaluation is not None]
    if judged:
        largest = max(judged, key=lambda evaluation: evaluation.images)
        steps = state.epoch * settings.steps_per_epoch
        record["warning"] = warn_of_chance(largest, settings, steps)


def _describe_sources(split: Split, bundle: Bundle) -> list[dict[str, Any]]:
    """Describe each dataset that was trained on, MNIST first, with its validation accuracy."""
    described = []
    mnist = range(split.sources[0][1].start)
    everything = [
        (split.data, 1, mnist),
        *((source.dataset, source.repeats, indices) for source, indices in split.sources),
    ]
    for dataset, repeats, indices in everything:
        trained, held = split.within(indices)
        described.append(
            {
                **describe(dataset),
                "images": len(indices),
                "trained": trained,
                "repeats": repeats,
                "validation_images": len(held.y),
                "validation_accuracy": score(bundle, held, dataset.name, "validation").accuracy
                if len(held.y)
                else None,
            }
        )
    return described


def _calibrate(bundle: Bundle, validation: LabeledImages, settings: TrainingSettings) -> None:
    """Fit temperature and rejection threshold, and store them in the bundle's record.

    With too few images, a fine-tuned network keeps those of the bundle that it started from.
    """
    record = bundle.record
    if settings.start is not None and len(validation.y) < _FEWEST_TO_CALIBRATE:
        say(
            f"notice: {len(validation.y)} validation images are too few to calibrate on: "
            f"temperature and threshold are taken from {settings.start}"
        )
        before = open_bundle(settings.start).record
        record["calibration"] = before["calibration"]
        record["rejection"] = before.get("rejection")
        return
    temperature = calibrate(bundle, validation)
    record["calibration"] = {"temperature": temperature, "fitted_on": "validation"}
    if settings.recipe.tells_non_digits:
        record["rejection"] = _rejection(bundle, validation, settings.seed)


def _fine_tuning_record(settings: TrainingSettings, split: Split, bundle: Bundle) -> dict[str, Any]:
    """Compare the network with the one that it started from, on unseen images.

    Returns:
        The accuracy before and after, on the user's own test images and on MNIST's; None if there
        are no unseen ones.
    """
    assert settings.start is not None
    before = open_bundle(settings.start)
    data, own_test, remembered = split.data, None, None
    if data.test is not None:
        accuracy_before = score(before, data.test, data.name, data.source).accuracy
        own_test = [accuracy_before, bundle.record["test"]["accuracy"]]
    if split.remembered is not None:
        remembered = [
            score(reader, split.remembered, "mnist", "MNIST").accuracy
            for reader in (before, bundle)
        ]
    return {
        "from": settings.start,
        "own_images": settings.own_images,
        "own_test": own_test,
        "mnist_test": remembered,
    }


def _rejection(bundle: Bundle, validation: LabeledImages, seed: int) -> dict[str, float]:
    """Choose the lowest confidence at which the reader accepts a crop as a digit.

    A share `_PASSING` of the validation digits reaches it, but it stays within `_MIN_CONFIDENCES`.

    Returns:
        The threshold, and the shares of validation digits and synthetic non-digits that pass it.
    """
    random = np.random.default_rng([seed, 0])
    synthetic = non_digits(validation.x, validation.y, len(validation.y), random)
    of_digits, of_others = (bundle.classify(x) for x in (validation.x, synthetic))
    low, high = _MIN_CONFIDENCES
    lowest_passing = math.floor(1e4 * np.quantile(of_digits.confidence, 1 - _PASSING)) / 1e4
    min_confidence = float(np.clip(lowest_passing, low, high))
    digits, others = (
        replace(found, min_confidence=min_confidence) for found in (of_digits, of_others)
    )
    return {
        "min_confidence": min_confidence,
        "digits_passing": float(digits.accepted.mean()),
        "non_digits_passing": float(others.accepted.mean()),
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

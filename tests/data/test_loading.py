"""Where data is looked for, in which order, and what is said on the way."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import digitwise as dw
from digitwise.data import loading
from digitwise.data.catalog import CATALOG
from tests.conftest import write_idx_folder

Digits = tuple[np.ndarray, np.ndarray]


def test_mnist_loads_as_keras_loads_it(mnist: Path) -> None:
    (x_train, y_train), (x_test, y_test) = dw.load_data(path=mnist)
    assert x_train.shape == (60000, 28, 28)
    assert y_train.shape == (60000,)
    assert x_test.shape == (10000, 28, 28)
    assert y_test.shape == (10000,)
    assert {x_train.dtype, y_train.dtype, x_test.dtype, y_test.dtype} == {np.dtype(np.uint8)}
    assert sorted(set(y_train)) == list(range(10))
    assert y_train[:5].tolist() == [5, 0, 4, 1, 9]


def test_the_data_folder_is_found_by_name(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITWISE_DATA", str(mnist.parent))
    dataset = loading.load_dataset("mnist")
    assert dataset.source == "DIGITWISE_DATA/mnist"
    published = [file.sha256 for file in CATALOG["mnist"].files]
    assert list(dataset.digests.values()) == published


def test_known_data_given_by_path_gets_its_name_and_classes(fashion_mnist: Path) -> None:
    dataset = loading.load_dataset(path=fashion_mnist)
    assert dataset.name == "fashion-mnist"
    assert dataset.classes[9] == "Ankle boot"


def test_offline_and_bare_the_sample_stands_in_and_says_so() -> None:
    with pytest.warns(dw.SampleDataWarning, match="all figures are the sample's"):
        (x_train, y_train), (x_test, y_test) = dw.load_data()
    assert x_train.shape == (4000, 28, 28)
    assert x_test.shape == (1000, 28, 28)
    assert (np.bincount(y_test) == 100).all()
    with pytest.warns(dw.SampleDataWarning):
        again = dw.load_data()
    assert (again[1][0] == x_test).all()


def test_the_sample_can_be_forbidden_and_stands_in_for_mnist_alone() -> None:
    with pytest.raises(dw.DigitwiseError, match="DIGITWISE_DATA or --data"):
        dw.load_data(allow_sample=False)
    with pytest.raises(dw.DigitwiseError, match="kmnist could not be downloaded"):
        dw.load_data("kmnist")


def test_an_unknown_name_gets_the_nearest_offered() -> None:
    with pytest.raises(dw.DigitwiseError, match="unknown dataset 'mnits': did you mean mnist"):
        dw.load_data("mnits")


def test_a_data_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITWISE_DATA", "/nowhere")
    with pytest.raises(dw.DigitwiseError, match="DIGITWISE_DATA names /nowhere"):
        dw.load_data()


def _write_keras_cache(tmp_path: Path, digits: Digits) -> Path:
    """Writes an mnist.npz where Keras keeps its own."""
    x, y = digits
    archive = tmp_path / "keras" / "datasets" / "mnist.npz"
    archive.parent.mkdir(parents=True)
    np.savez(archive, x_train=x[:30], y_train=y[:30], x_test=x[30:40], y_test=y[30:40])
    return archive


def test_kerass_cache_is_used_when_its_digest_is_right(
    tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = _write_keras_cache(tmp_path, digits)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(loading, "KERAS_MNIST_SHA256", digest)
    assert loading.load_dataset("mnist").source == "Keras's cache"


def test_kerass_cache_with_a_wrong_digest_is_refused_by_name(
    tmp_path: Path, digits: Digits
) -> None:
    archive = _write_keras_cache(tmp_path, digits)
    with pytest.raises(dw.DigitwiseError) as caught:
        dw.load_data()
    assert str(archive) in str(caught.value)
    assert "delete the file" in str(caught.value)


def test_one_set_alone_is_split_five_to_one_and_that_is_said(
    tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = digits
    np.savez(tmp_path / "mine.npz", x_train=x[:600], y_train=y[:600])
    (x_train, _), (x_test, y_test) = dw.load_data(path=tmp_path / "mine.npz")
    assert len(x_train) == 500
    assert len(x_test) == 100
    assert len(set(y_test)) == 10
    assert "split into 500 to train and 100 to test" in capsys.readouterr().err


def test_a_test_set_alone_cannot_be_trained_on(tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    np.savez(tmp_path / "test.npz", x_test=x[:60], y_test=y[:60])
    with pytest.raises(dw.DigitwiseError, match="nothing to train on"):
        dw.load_data(path=tmp_path / "test.npz")


def test_labels_beyond_a_named_dataset_are_refused(tmp_path: Path, digits: Digits) -> None:
    folder = write_idx_folder(tmp_path / "idx", digits[0][:30], np.arange(30, dtype=np.uint8), 10)
    with pytest.raises(dw.DigitwiseError, match="leave --dataset out"):
        loading.load_dataset("mnist", folder)
    assert len(loading.load_dataset(None, folder).classes) == 30


def test_other_data_in_a_datasets_folder_is_refused(
    tmp_path: Path, digits: Digits, mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_idx_folder(tmp_path / "data" / "mnist", *digits, test=2000)
    monkeypatch.setenv("DIGITWISE_DATA", str(folder.parent))
    with pytest.raises(dw.DigitwiseError) as caught:
        dw.load_data()
    assert str(caught.value) == (
        f"{folder}: not mnist as published (differs in x_train, y_train, x_test, y_test): give "
        "the folder as --data, or unset DIGITWISE_DATA"
    )
    for file in folder.glob("train-*"):
        file.unlink()
        (folder / f"{file.name}.gz").symlink_to(mnist / f"{file.name}.gz")
    with pytest.raises(dw.DigitwiseError, match=r"\(differs in x_test, y_test\)"):
        dw.load_data()
    for file in folder.glob("t10k-*"):
        file.unlink()
    loaded = loading.load_dataset("mnist")  # a part of it may be missing
    assert loaded.is_published
    assert loaded.test is None


def test_kmnist_is_checked_by_its_gzipped_files(
    tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits[0][:30], digits[1][:30]
    folder = write_idx_folder(tmp_path / "data" / "kmnist", x, y, test=10, suffix=".gz")
    monkeypatch.setenv("DIGITWISE_DATA", str(folder.parent))
    with pytest.raises(dw.DigitwiseError, match=r"not kmnist.*differs in train-images.*\.gz"):
        dw.load_data("kmnist")


def test_only_published_data_gets_the_name_of_a_dataset(
    digits: Digits, mnist: Path, fashion_mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_idx_folder(Path("mine"), digits[0][:30], digits[1][:30], 10)
    loaded = loading.load_dataset("fashion-mnist", folder)
    assert loaded.name == "mine"
    assert loaded.classes[9] == "Ankle boot"
    assert "could not be verified as the published fashion-mnist, so it is called 'mine'" in (
        capsys.readouterr().err
    )
    assert loading.load_dataset("kmnist", folder).name == "mine"
    assert loading.load_dataset("mnist", mnist).name == "mnist"
    with pytest.raises(dw.DigitwiseError, match="holds fashion-mnist, not mnist"):
        loading.load_dataset("mnist", fashion_mnist)


def test_a_published_test_set_is_not_used_as_a_training_set(mnist: Path) -> None:
    test = loading.load_dataset(path=mnist).test
    np.savez("mnist_test.npz", x_train=test.x, y_train=test.y)
    loaded = loading.load_dataset(path="mnist_test.npz")
    assert (loaded.name, loaded.train) == ("mnist", None)
    with pytest.raises(dw.DigitwiseError, match="nothing to train on"):
        dw.load_data(path="mnist_test.npz")


def test_images_in_both_sets_are_left_out_of_the_test_set(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = digits
    np.savez("mine.npz", x_train=x[:300], y_train=y[:300], x_test=x[200:350], y_test=y[200:350])
    (x_train, _), (x_test, y_test) = dw.load_data(path="mine.npz")
    assert len(x_train) == 300
    assert (x_test == x[300:350]).all()
    assert (y_test == y[300:350]).all()
    assert "left out 100 of 150 test images, which are also in the training set" in (
        capsys.readouterr().err
    )
    np.savez("same.npz", x_train=x[:300], y_train=y[:300], x_test=x[:30], y_test=y[:30])
    with pytest.raises(dw.DigitwiseError, match="no test images are left"):
        dw.load_data(path="same.npz")


def test_a_duplicate_image_is_in_only_one_set(digits: Digits) -> None:
    x, y = (np.repeat(part[:120], 2, axis=0) for part in digits)
    np.savez("twice.npz", x_train=x, y_train=y)
    (x_train, _), (x_test, _) = dw.load_data(path="twice.npz")
    assert len(x_test) == 40
    assert not {image.tobytes() for image in x_train} & {image.tobytes() for image in x_test}

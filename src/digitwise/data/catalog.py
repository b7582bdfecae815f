"""The datasets known by name: files, digests, classes, licence, and where they are published."""

from dataclasses import dataclass

from digitwise.errors import unknown_name

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class PublishedFile:
    """One gzipped IDX file as its makers publish it.

    Attributes:
        name: the file's name, which every mirror uses.
        sha256: digest of the uncompressed bytes, where it is known.
        gzip_md5: digest of the compressed bytes as published, where that alone is known.
    """

    name: str
    sha256: str | None = None
    gzip_md5: str | None = None


@dataclass(frozen=True)
class CatalogEntry:
    """A dataset that `load_data` knows by name.

    Attributes:
        name: what `--dataset` takes.
        title: its full name.
        classes: the name of each label, in the order of the labels.
        licence: under what terms its makers publish it.
        homepage: where its makers describe it.
        mirrors: addresses that a file's name is appended to, the first tried first.
        files: training images and labels, test images and labels.
        digests_tried: whether the digests were compared with the real files; where they were
            not, they are as others publish them.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    licence: str
    homepage: str
    mirrors: tuple[str, ...]
    files: tuple[PublishedFile, PublishedFile, PublishedFile, PublishedFile]
    digests_tried: bool


IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _files(
    sha256: tuple[str | None, ...] = (None,) * 4,
    gzip_md5: tuple[str | None, ...] = (None,) * 4,
) -> tuple[PublishedFile, PublishedFile, PublishedFile, PublishedFile]:
    """Pairs the four IDX names with their digests."""
    first, second, third, fourth = (
        PublishedFile(f"{name}.gz", plain, packed)
        for name, plain, packed in zip(IDX_NAMES, sha256, gzip_md5, strict=True)
    )
    return first, second, third, fourth


CATALOG = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            name="mnist",
            title="MNIST handwritten digits",
            classes=DIGITS,
            licence="CC BY-SA 3.0 (as Keras states it)",
            homepage="https://yann.lecun.org/exdb/mnist/",
            mirrors=(
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
            ),
            files=_files(
                sha256=(
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                )
            ),
            digests_tried=True,
        ),
        CatalogEntry(
            name="fashion-mnist",
            title="Fashion-MNIST articles of clothing",
            classes=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            licence="MIT",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            mirrors=(
                "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            ),
            files=_files(
                sha256=(
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                )
            ),
            digests_tried=True,
        ),
        CatalogEntry(
            name="kmnist",
            title="Kuzushiji-MNIST cursive Japanese characters",
            classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            licence="CC BY-SA 4.0",
            homepage="https://codh.rois.ac.jp/kmnist/",
            mirrors=(
                "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            ),
            files=_files(
                gzip_md5=(
                    "bdb82020997e1d708af4cf47b453dcf7",
                    "e144d726b3acfaa3e44228e80efcd344",
                    "5c965bf0a639b31b8f53240b1b52f4d7",
                    "7320c461ea6c1c855c0b718fb2a4b134",
                )
            ),
            digests_tried=False,
        ),
    )
}

KERAS_MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def catalog_entry(name: str) -> CatalogEntry:
    """Looks a dataset up by name.

    Raises:
        DigitwiseError: no dataset goes by that name; the nearest is offered.
    """
    try:
        return CATALOG[name]
    except KeyError:
        raise unknown_name("dataset", name, CATALOG) from None

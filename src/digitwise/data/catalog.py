"""The datasets known by name: files, digests, classes, license, and where they are published."""

from collections.abc import Mapping
from dataclasses import dataclass

from digitwise.errors import unknown_name

DIGITS = tuple("0123456789")
SIGNS = "+-×÷=()/.,"
CHARACTERS = "".join(DIGITS) + SIGNS  # the classes of page and line networks, without OTHER
OTHER = len(CHARACTERS)  # the class of letters and other symbols


@dataclass(frozen=True)
class PublishedFile:
    """A file of a dataset, as published.

    Attributes:
        name: the file's name, which every mirror uses.
        sha256: digest of the uncompressed bytes of a gzipped file, if known.
        gzip_md5: digest of the compressed bytes as published, if only that is known.
    """

    name: str
    sha256: str | None = None
    gzip_md5: str | None = None


@dataclass(frozen=True)
class CatalogEntry:
    """A dataset that `load_data` knows by name.

    Attributes:
        name: the dataset's name, as `--dataset` takes it.
        title: its full name.
        classes: the name of each label, in the order of the labels.
        license: the license under which it is published.
        homepage: its description by its makers.
        mirrors: base addresses of its files, in the order in which they are tried.
        files: in IDX format, training images and labels, test images and labels.
        digests_tried: whether the digests were compared with the real files; if not, they are as
            published by others.
        credit: whom its license asks to credit.
        array_digests: SHA-256 of each array before it is resized, as an IDX file would hold it, for
            files that are not in IDX format.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    license: str
    homepage: str
    mirrors: tuple[str, ...]
    files: tuple[PublishedFile, ...]
    digests_tried: bool
    credit: str = ""
    array_digests: Mapping[str, str] | None = None

    @property
    def is_idx(self) -> bool:
        """Whether its files are in IDX format."""
        return self.array_digests is None


IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _files(
    sha256: tuple[str | None, ...] = (None,) * 4,
    gzip_md5: tuple[str | None, ...] = (None,) * 4,
) -> tuple[PublishedFile, ...]:
    """Pair the four IDX names with their digests."""
    return tuple(
        PublishedFile(f"{name}.gz", plain, packed)
        for name, plain, packed in zip(IDX_NAMES, sha256, gzip_md5, strict=True)
    )


def _uci(folder: str) -> tuple[str, ...]:
    """Return the addresses of a folder of the UCI Machine Learning Repository."""
    return (f"https://archive.ics.uci.edu/ml/machine-learning-databases/{folder}/",)


CATALOG = {
    entry.name: entry
    for entry in (
        CatalogEntry(
            name="mnist",
            title="MNIST handwritten digits",
            classes=DIGITS,
            license="CC BY-SA 3.0 (as Keras states it)",
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
            license="MIT",
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
            license="CC BY-SA 4.0",
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
        CatalogEntry(
            name="semeion",
            title="Semeion handwritten digits, Italy",
            classes=DIGITS,
            license="CC BY 4.0",
            homepage="https://archive.ics.uci.edu/dataset/178/semeion+handwritten+digit",
            mirrors=_uci("semeion"),
            files=(PublishedFile("semeion.data"),),
            digests_tried=True,
            credit="Semeion Research Center of Sciences of Communication, Rome; Tattile, Brescia",
            array_digests={
                "x_train": "33e1606d881a5988302fb970da2d0ecbfb2af37a8fdef55037d98f4b589465ef",
                "y_train": "3a94904a16a7e72ccb75c3ed0983d41617c464d99cc28c918c807a2cb4a17bd6",
            },
        ),
        CatalogEntry(
            name="multiple-features",
            title="Multiple Features, pixel averages, the Netherlands",
            classes=DIGITS,
            license="CC BY 4.0",
            homepage="https://archive.ics.uci.edu/dataset/72/multiple+features",
            mirrors=_uci("mfeat"),
            files=(PublishedFile("mfeat-pix"),),
            digests_tried=True,
            credit="R. Duin, Delft University of Technology",
            array_digests={
                "x_train": "37b17a1b96a56e1fced7873699149348d1d608670c55580c75964dc11578cbd8",
                "y_train": "eb38fdf2e7cddffd64c12cfddcab895a23599b60b02814c435fb3787b8eace28",
            },
        ),
        CatalogEntry(
            name="optdigits",
            title="Optical Recognition of Handwritten Digits, bitmaps, Turkey",
            classes=DIGITS,
            license="CC BY 4.0",
            homepage=(
                "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
            ),
            mirrors=_uci("optdigits"),
            files=(PublishedFile("optdigits-orig.tra.Z"), PublishedFile("optdigits-orig.cv.Z")),
            digests_tried=True,
            credit="E. Alpaydin and C. Kaynak, Bogazici University",
            array_digests={
                "x_train": "8a2d2c586a42ff24e5907e58947c9974d8fb0744a72eaa46f72b5c4d162af8d3",
                "y_train": "3347156ca3e729c0ac08dbdc348cb59dc29958aa314eb2d72e1a1e24bed8c794",
            },
        ),
    )
}

KERAS_MNIST_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def catalog_entry(name: str) -> CatalogEntry:
    """Return the dataset with a name.

    Raises:
        DigitwiseError: there is none; the message suggests the nearest name.
    """
    try:
        return CATALOG[name]
    except KeyError:
        raise unknown_name("dataset", name, CATALOG) from None

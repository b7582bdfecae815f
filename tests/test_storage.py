"""Files are written atomically, and never over a file that must be kept."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from digitwise.errors import DigitwiseError
from digitwise.storage import (
    LONGEST_NAME,
    MARK,
    image_mark,
    is_marked,
    open_whole,
    protected,
    sweep_unfinished,
    unfinished_name,
    write_json,
    write_text,
)


def test_a_new_writer_keeps_foreign_files_by_default() -> None:
    Path("notes.txt").write_text("mine")
    with pytest.raises(DigitwiseError, match=r"^notes\.txt exists: choose another --output"):
        write_text(Path("notes.txt"), "ours")
    assert Path("notes.txt").read_text() == "mine"
    write_text(Path("notes.txt"), MARK, force=True)
    write_text(Path("notes.txt"), "replaces what is marked")
    assert Path("notes.txt").read_text() == "replaces what is marked"
    assert os.listdir() == ["notes.txt"]


def test_a_file_that_appears_during_the_writing_is_kept() -> None:
    with pytest.raises(DigitwiseError, match="exists"), open_whole(Path("a")):
        Path("a").write_text("mine")
    assert Path("a").read_text() == "mine"
    assert os.listdir() == ["a"]


@pytest.mark.parametrize("kind", ["itself", "symbolic link", "hard link", "other spelling"])
def test_an_input_is_known_under_every_name(kind: str) -> None:
    Path("in").mkdir()
    source, target = Path("in/page.png"), Path("page.png")
    source.write_text(MARK)
    if kind == "symbolic link":
        target.symlink_to(source)
    elif kind == "hard link":
        target.hardlink_to(source)
    else:
        target = source if kind == "itself" else Path("in/../in/page.png")
    with protected([source]), pytest.raises(DigitwiseError, match="is an input of this call"):
        write_text(target, "ours", force=True)
    assert source.read_text() == MARK
    write_text(target, "ours")


def test_only_regular_files_are_replaced() -> None:
    Path("folder").mkdir()
    os.mkfifo("pipe")
    for path in (Path("folder"), Path("pipe"), Path(os.devnull)):
        with pytest.raises(DigitwiseError, match=r"is a folder|is not a regular file"):
            write_text(path, "ours", force=True)
    assert Path("pipe").is_fifo()


def test_a_link_stays_a_link() -> None:
    Path("there").mkdir()
    Path("link.txt").symlink_to("there/text.txt")
    write_text(Path("link.txt"), MARK)
    write_text(Path("link.txt"), "new")
    assert Path("link.txt").is_symlink()
    assert Path("there/text.txt").read_text() == "new"


def test_the_longest_name_can_be_written() -> None:
    for character in ("x", "é", "😀"):
        name = Path(character * (LONGEST_NAME // len(character.encode())))
        write_text(name, "ours")
        assert name.read_text() == "ours"


def test_only_our_own_leftovers_are_removed() -> None:
    Path(".unfinished-novel").write_text("mine")
    temporary = unfinished_name(Path("a"))  # as a killed writer leaves it
    temporary.write_text("half")
    sweep_unfinished(Path())
    assert os.listdir() == [".unfinished-novel"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP"])
def test_images_carry_the_mark(kind: str) -> None:
    for name, options in (("plain", {}), ("marked", image_mark(kind))):
        Image.effect_noise((900, 700), 80).convert("RGB").save(name, kind, **options)
        assert is_marked(Path(name)) == (name == "marked")
        with Image.open(name) as image:
            image.load()


def test_a_name_that_is_not_utf8_survives_in_json() -> None:
    name = os.fsdecode(b"scan-\xff.png")
    write_json(Path("names.json"), {"path": name})
    assert json.loads(Path("names.json").read_text()) == {"path": name}

"""What lies in a folder: which files are pictures, where links lead, what is passed over."""

import os
from pathlib import Path

import pytest
from PIL import Image

from mergeshift import UserError
from tasks import TASKS
from tasks.sources.walk import DEEPEST, OFTEN, walk
from tests.helpers.pictures import CLASSES, picture, random, save, tree

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def names(root: Path) -> list[str]:
    return [str(Path(path).relative_to(root)) for path, *_ in walk(root).pictures()]


@pytest.mark.parametrize(
    "suffix",
    ["jfif", "jpe", "JPG", "Jpeg", "avif", "webp", "tif", "TIFF", "gif", "apng", "bmp", "dib",
     "pgm", "ppm", "pbm", "tga", "ico", "jp2", "j2k", "qoi", "pcx", "sgi", "dds", "xbm"],
)  # fmt: skip
def test_every_raster_format_of_pillow_is_read(tmp_path, suffix):
    """https://github.com/pytorch/vision/issues/735: webp was left out in silence."""
    path = tmp_path / f"a.{suffix}"
    mode = "1" if suffix in ("pbm", "xbm") else "L" if suffix == "pgm" else "RGB"
    Image.fromarray(random(32, 32)).convert(mode).save(path, Image.registered_extensions()[
        f".{suffix.lower()}"])  # fmt: skip
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["a", "a.JPG2", "a.jpg_large", "at 10.20", "a.jpg!d", "a.image"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "JPEG2000"])
def test_a_picture_of_another_suffix_or_none_is_read(tmp_path, name, kind):
    Image.fromarray(random(32, 32)).save(tmp_path / name, kind)
    assert names(tmp_path) == [name]


def test_what_is_no_picture_is_counted_by_suffix(tmp_path):
    for name in ("a.heic", "b.HEIC", "c.svg", "d.eps", "e.npy", "f", "g.pcd", "h.fits"):
        (tmp_path / name).write_bytes(b"no picture")
    for name in ("notes.txt", "labels.csv", "LICENSE", "Thumbs.db", "desktop.ini", "task.json"):
        (tmp_path / name).write_bytes(b"text")
    for name in ("a.png.bak", "a.png~", "b.jpg.part", ".hidden.png", "raw.cr2"):
        (tmp_path / name).write_bytes(PNG_HEAD if "png" in name else b"II*\0")
    found = walk(tmp_path)
    assert found.count == 0
    assert found.unread() == {
        ".heic": 2, ".svg": 1, ".eps": 1, ".npy": 1, "no suffix": 1, ".pcd": 1, ".fits": 1,
        ".bak": 1, ".png~": 1, ".part": 1, ".cr2": 1,
    }  # fmt: skip


def test_an_empty_or_broken_file_with_the_suffix_of_a_picture_stays_one(tmp_path):
    """It is refused when it is looked at; to leave it out would lose a picture."""
    for name in ("a.png", "b.avif", "c.jfif"):
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path) == ["a.png", "b.avif", "c.jfif"]


def test_links_are_followed_and_circles_are_not(tmp_path):
    save(random(8, 8), tmp_path / "elsewhere" / "deep" / "1.png")
    root = tmp_path / "root"
    save(random(8, 8), root / "a" / "0.png")
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    (root / "b").symlink_to(root / "a")
    (root / "one.png").symlink_to(root / "a" / "0.png")
    (root / "gone.png").symlink_to(root / "nothing.png")
    (root / "self").symlink_to(root / "self")
    assert names(root) == ["a/0.png", "a/more/deep/1.png", "b/0.png", "b/more/deep/1.png",
                           "one.png"]  # fmt: skip
    assert walk(root).passed == (
        "gone.png (a link that leads nowhere, or no file)",
        "self (a link that leads nowhere, or no file)",
    )
    assert walk(root).folders[0].passed == ("up (a link to a folder above)",)


def test_a_knot_of_links_ends(tmp_path):
    """Folders of which each links to the next ten times: 10 ** 20 paths."""
    for level in range(20):
        (tmp_path / str(level)).mkdir()
        for link in range(10):
            (tmp_path / str(level) / f"x{link}").symlink_to(tmp_path / str(level + 1))
    save(random(8, 8), tmp_path / "20" / "0.png")
    assert 1 <= walk(tmp_path).count <= OFTEN + 1


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    save(random(8, 8), tmp_path / "b.png")
    assert names(tmp_path) == ["b.png"]


def test_folders_end_somewhere(tmp_path):
    deep = tmp_path.joinpath(*["a"] * (DEEPEST + 5))
    save(random(8, 8), deep / "0.png")
    assert walk(tmp_path).count == 0


def test_pictures_come_in_the_order_of_their_paths(tmp_path):
    for name in ("b/0.png", "b-1.png", "b.png", "a/2.png", "a/10.png", "B.png"):
        save(random(8, 8), tmp_path / name)
    wanted = [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*.png"))]
    assert names(tmp_path) == wanted


# -- end to end ------------------------------------------------------------------------------------


def test_a_class_of_another_suffix_does_not_vanish(data_folder):
    tree(data_folder / "pets", CLASSES, train=2, test=10)
    wanted = TASKS["local_pets"].sizes
    tree(data_folder / "more", CLASSES, train=2, test=10)
    for path in sorted((data_folder / "more").rglob("bee/*.png")):
        Image.open(path).save(path.with_suffix(".jfif"), "JPEG")
        path.unlink()
    assert TASKS["local_more"].sizes == wanted == (6, 3, 3, 24)


def test_linked_subfolders_do_not_vanish(data_folder):
    tree(data_folder / "pets", CLASSES, test=10)
    elsewhere = data_folder.parent / "elsewhere"
    elsewhere.mkdir()
    for name in CLASSES:
        for i in range(10, 14):
            save(picture("test", name, i), elsewhere / name / f"{i}.png")
        (data_folder / "pets" / "test" / name / "more").symlink_to(elsewhere / name)
    assert TASKS["local_pets"].sizes == (0, 4, 4, 34)


def test_a_class_that_loses_all_is_an_error(data_folder):
    tree(data_folder / "pets", CLASSES, train=2, test=10)
    for path in sorted((data_folder / "pets").rglob("bee/*.png")):
        path.rename(path.with_suffix(".heic"))
        path.with_suffix(".heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UserError, match=r"class 'bee' of train has no picture .*\(2 of .heic\)"):
        TASKS["local_pets"]

import os

import pytest

from onnx_geed import GeedError
from onnx_geed.data.folders import kind_of_folder


def images_of(folder):
    kind, names = kind_of_folder(str(folder), "NCHW")
    assert kind.kind == "images"
    return list(names)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_paths_are_in_bytewise_order_through_all_folders(tmp_path):
    names = ["b.png", "a/z.png", "a.png", "a-b/c.JPG", "B.webp", "é.png", "a/é/x.tif", "a/10.png"]
    for name in [*names, "a/9.png", "notes.txt", ".hidden.png", ".cache/x.png", "a/._z.png"]:
        touch(tmp_path / name)
    expected = sorted([*names, "a/9.png"], key=lambda n: n.encode())
    assert images_of(tmp_path) == expected
    assert expected.index("a-b/c.JPG") < expected.index("a.png") < expected.index("a/10.png")


def test_linked_class_folders_are_followed_and_circles_are_not(tmp_path):
    touch(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "data").mkdir()
    for name, target in (("one", "elsewhere"), ("two", "elsewhere"), ("up", "data")):
        (tmp_path / "data" / name).symlink_to(tmp_path / target, target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data", target_is_directory=True)
    assert images_of(tmp_path / "data") == ["one/x.png", "two/x.png"]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_not_utf8_are_listed(tmp_path):
    try:
        touch(tmp_path / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    touch(tmp_path / "z.png")
    assert [os.fsencode(p) for p in images_of(tmp_path)] == [b"z.png", b"\xff.png"]


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(GeedError, match=r"no images in the folder .* it is empty"):
        images_of(tmp_path)
    touch(tmp_path / "x.csv")
    with pytest.raises(GeedError, match=r"it holds \.csv"):
        images_of(tmp_path)

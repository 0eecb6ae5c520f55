"""Folders of images: class folders, and what may lie in them."""

import os

import pytest

from pipeline.data.sources.source import Form
from reading import read, refused


def made(folder, **contents):
    """A folder of these files, by their paths, where __ is /."""
    for name, data in contents.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def test_class_folders_by_name(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("dog/b.png", "cat/z.JPG", "cat/a.webp", "cat/inner/deep/m.png", "cat/b/c.png", "Äpfel 🍎/ü.png"):
        made(tmp_path / "x", **{name: name.encode()})
    found = read(str(tmp_path / "x"), "train")
    names = ["cat/a.webp", "cat/b/c.png", "cat/inner/deep/m.png", "cat/z.JPG", "dog/b.png", "Äpfel 🍎/ü.png"]
    assert found.ids == names
    assert found.inputs == [name.encode() for name in names]
    assert found.labels == [0, 0, 0, 0, 1, 2]
    assert found.source.classes == ("cat", "dog", "Äpfel 🍎")
    assert (found.source.form, found.source.labelled) == (Form("image"), True)
    assert found.places[5] == f"{tmp_path}/x/Äpfel 🍎/ü.png"
    assert found.source.files == ((tmp_path / "x").resolve(),)
    assert found.source.size_bytes == sum(len(name.encode()) for name in names)


def test_one_folder_without_classes(tmp_path):
    found = read(str(made(tmp_path, **{"b.png": b"1", "a.jpeg": b"2"})))
    assert (found.ids, found.labels, found.source.classes) == (["a.jpeg", "b.png"], [None, None], None)
    refused(str(tmp_path), "expected labels (class folders), found none", role="valid")


def test_every_file_is_an_image_but_what_systems_leave_behind(tmp_path):
    made(tmp_path, cat__notes=b"text", cat__Thumbs=b"", dog__a=b"1")
    made(tmp_path, **{"cat/Thumbs.db": b"", "dog/.DS_Store": b"", ".git/x": b"", "cat/.cache/y": b"", "dog/desktop.ini": b""})
    assert read(f"folder({str(tmp_path)!r})").ids == ["cat/Thumbs", "cat/notes", "dog/a"]


def test_a_trailing_slash_and_a_relative_path(tmp_path, monkeypatch):
    made(tmp_path / "x", **{"cat/a.png": b"1"})
    monkeypatch.chdir(tmp_path)
    for text in ("x", "x/", "./x", f"{tmp_path}/x/"):
        assert read(text).ids == ["cat/a.png"]
    monkeypatch.chdir(tmp_path / "x")
    assert read(".").ids == ["cat/a.png"]


def test_an_empty_class(tmp_path):
    """It is no class; ingest refuses it in the training split."""
    made(tmp_path, **{"cat/a.png": b"1", "dog/.DS_Store": b"", "emu/b.png": b"2"})
    found = read(str(tmp_path), "train")
    assert (found.source.classes, found.source.empty) == (("cat", "emu"), (f"{tmp_path}/dog",))
    assert list(zip(found.ids, found.labels, strict=True)) == [("cat/a.png", 0), ("emu/b.png", 1)]
    made(tmp_path / "none", **{"cat/.DS_Store": b"", "dog/Thumbs.db": b""})
    refused(str(tmp_path / "none"), "none: expected a folder with images, found none. Add images.")


def test_folders_that_are_no_classes(tmp_path):
    made(tmp_path, **{"2024/may/a.png": b"1", "2025/b.png": b"2", "c.png": b"3"})
    text = f"folder({str(tmp_path)!r}, labels=False)"
    found = read(text)
    assert (found.ids, found.inputs, found.labels) == (
        ["2024/may/a.png", "2025/b.png", "c.png"],
        [b"1", b"2", b"3"],
        [None] * 3,
    )
    assert (found.source.classes, found.source.empty) == (None, ())
    refused(text, "expected labels (class folders), found none", role="train")
    refused(f"folder({str(tmp_path)!r}, labels='no')", "source folder, labels: expected True or False, found 'no'")


def test_files_beside_class_folders(tmp_path):
    made(tmp_path, **{"cat/a.png": b"1", "README.md": b"x"})
    refused(str(tmp_path), "expected class folders, or images, and not both, found README.md beside cat")


def test_links_that_lead_out(tmp_path):
    made(tmp_path, **{"out/secret": b"x", "x/cat/a.png": b"1"})
    (tmp_path / "x/cat/b.png").symlink_to("../../out/secret")
    refused(str(tmp_path / "x"), "x/cat/b.png: expected a symbolic link to a file in", "found one that leads to", "out/secret")


@pytest.mark.parametrize("target", ["../dog", "nowhere", "b.png", ".."])
def test_links_to_folders_to_nothing_and_in_circles(tmp_path, target):
    made(tmp_path, **{"cat/a.png": b"1", "dog/a.png": b"1"})
    (tmp_path / "cat/b.png").symlink_to(target)
    refused(str(tmp_path), "cat/b.png: expected")


def test_links_within_the_folder_and_to_it(tmp_path):
    made(tmp_path, **{"x/cat/a.png": b"1", "x/dog/a.png": b"2"})
    (tmp_path / "x/cat/b.png").symlink_to("../dog/a.png")
    (tmp_path / "link").symlink_to("x")
    found = read(str(tmp_path / "link"))
    assert (found.ids, found.inputs) == (["cat/a.png", "cat/b.png", "dog/a.png"], [b"1", b"2", b"2"])
    assert found.source.files == read(str(tmp_path / "x")).source.files


def test_a_link_as_a_class_folder(tmp_path):
    made(tmp_path, **{"x/cat/a.png": b"1", "out/a.png": b"2"})
    (tmp_path / "x/dog").symlink_to(tmp_path / "out")
    refused(str(tmp_path / "x"), "x/dog: expected a symbolic link to a file in")


def test_a_name_that_is_no_utf8(tmp_path):
    made(tmp_path, **{"cat/a.png": b"1"})
    (tmp_path / "cat" / os.fsdecode(b"b\xff.png")).write_bytes(b"2")
    refused(str(tmp_path), "cat: expected names in UTF-8, found b'b\\xff.png'. Rename the file or folder.")


def test_a_pipe(tmp_path):
    made(tmp_path, **{"cat/a.png": b"1"})
    os.mkfifo(tmp_path / "cat/b.png")
    refused(str(tmp_path), "cat/b.png: expected files and folders, found a pipe, a socket or a device")


def test_what_is_no_folder(tmp_path):
    made(tmp_path, **{"a.png": b"1"})
    refused(f"folder('{tmp_path}/none')", "expected a folder of images, found no such folder")
    refused(f"folder('{tmp_path}/a.png')", "expected a folder of images, found a file")
    refused("folder(3)", "source 3: expected a folder of images")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    made(tmp_path, **{"cat/a.png": b"1"})
    (tmp_path / "cat/a.png").chmod(0)
    refused(str(tmp_path), "cat/a.png: expected a file that can be read, found Permission denied")

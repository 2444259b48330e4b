"""atomic.py: a file is written whole or not at all, and every failure is one clear sentence."""

import errno
import os
import shutil

import pytest

from BreastUSAILib.atomic import atomic_path, check_writable, write_bytes, write_text
from BreastUSAILib.cli import main
from BreastUSAILib.errors import OutputError


def test_writes_and_makes_parent_folders(tmp_path):
    target = tmp_path / "new" / "deeper" / "Läsion 1.json"
    assert write_text(target, "größe\r\n") == target
    assert target.read_bytes() == "größe\r\n".encode()
    assert [p.name for p in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.seg.nrrd", ".seg.nrrd"), ("a.mrk.json", ".mrk.json"), ("1.2.840.nii.gz", ".nii.gz"), ("plain", "")],
)
def test_temporary_name_keeps_the_suffixes_and_the_folder(tmp_path, name, ending):
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(ending)
        assert temporary.name != name
        temporary.write_bytes(b"x")
        assert not (tmp_path / name).exists()
    assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("name", ["file", "file/results", "n" * 300])
def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path, name):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError, match="cannot be written: (a part of the path is a file|the name is too long)"):
        check_writable(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_that_can_be_written_are_left_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path, tmp_path / "new" / "deeper", "new", "."):
        check_writable(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["segment", "grade", "detect", "segment-3d", "heatmap", "phantom"])
def test_evaluations_whose_output_is_a_file_end_before_they_begin(tmp_path, capsys, what):
    """All networks ran, and then their figures had no place."""
    (tmp_path / "file").write_text("kept")
    data = [] if what == "phantom" else ["--data", str(tmp_path / "none")]
    assert main(["evaluate", what, *data, "--output", str(tmp_path / "file")]) != 0
    assert f"{tmp_path / 'file'} cannot be written: a part of the path is a file" in capsys.readouterr().err


def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    target = write_bytes(tmp_path / "a.txt", b"old")
    with pytest.raises(ValueError, match="boom"), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError("boom")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_keyboard_interrupt_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    target = tmp_path / ("n" * 250 + ".txt")
    assert write_text(target, "x").read_text() == "x"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "permission is denied"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "choose another output folder"),
    ],
)
def test_errors_of_the_system_become_one_sentence(tmp_path, code, words):
    target = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=words) as caught, atomic_path(target):
        raise OSError(code, "what the system says")
    assert str(target) in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="/dev/full is a POSIX device")
def test_a_really_full_disk(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "a.txt", tmp_path / "file" / "deeper" / "a.txt"):
        with pytest.raises(OutputError, match="is a file, not a folder"):
            write_text(target, "x")


def test_a_folder_where_the_file_shall_be(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputError, match="a folder of that name"):
        write_text(tmp_path / "a.txt", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_errors_about_other_files_are_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "copy.txt") as temporary:
        shutil.copy(tmp_path / "missing.txt", temporary)

"""Whole files, and the check of outputs before work."""

import os
from pathlib import Path

import pytest

from uno_jax.support.atomic import atomic_write, check_output, check_output_folder


def test_checks_leave_nothing(tmp_path):
    check_output("--out", tmp_path / "new" / "deep" / "page.html")
    check_output_folder("--out", tmp_path / "new" / "deep")
    check_output_folder("--out", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="is a device or a pipe"), atomic_write(pipe):
        pass
    with pytest.raises(OSError, match="is a device or a pipe"):
        check_output("--out", pipe)
    assert pipe.is_fifo()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="--out"):
        check_output_folder("--out", tmp_path / "new")


def test_relative_paths_are_checked_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_output("--out", Path("page.html"))
    check_output_folder("--out", Path("new/folder"))


def test_a_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name in ("there", "absent"):
        (tmp_path / name).symlink_to(f"elsewhere/{name}")
    (tmp_path / "elsewhere" / "there").write_text("old")
    for name in ("there", "absent"):
        with atomic_write(tmp_path / name) as partial:
            partial.write_text("new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "elsewhere" / name).read_text() == "new"
    assert len(list(tmp_path.rglob("*"))) == 5


def test_a_link_to_a_device_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("/dev/full")
    with pytest.raises(OSError, match="is a device or a pipe"), atomic_write(tmp_path / "link"):
        pass

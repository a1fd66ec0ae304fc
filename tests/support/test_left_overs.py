"""What killed writers leave is removed by the next one, and what live ones write is not."""

import contextlib
import os
import subprocess
import sys
import time

import pytest

from uno_jax.support import left_overs
from uno_jax.support.atomic import atomic_write, replace_directory
from uno_jax.support.folder_lock import locked
from uno_jax.support.left_overs import REST, aside_of, held, is_passing, remove_left_overs

KILLED = """
import os, sys
from pathlib import Path
from uno_jax.support.atomic import atomic_write
from uno_jax.support.left_overs import aside_of, held
with atomic_write(Path("file")) as file, held(aside_of(Path("folder")), folder=True):
    file.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / "file").write_text("whole")
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.getcwd()})
    left = sorted(path.name.split(".")[1] for path in tmp_path.iterdir() if path.name.startswith("."))
    assert left == ["file", "folder"] and all(map(is_passing, set(os.listdir(tmp_path)) - {"file"}))
    with locked(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "whole"


def test_the_first_write_into_a_folder_removes_them_too(tmp_path):
    aside_of(tmp_path / "00000.tar").write_bytes(b"half")
    (tmp_path / f".00001.tar.{left_overs.HOST}.1.partial").write_bytes(b"of an earlier version")
    with atomic_write(tmp_path / "00000.tar") as partial:
        partial.write_bytes(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["00000.tar"]


def test_what_is_being_written_stays(tmp_path):
    with atomic_write(tmp_path / "file") as file, held(aside_of(tmp_path / "folder"), folder=True):
        file.write_text("half")
        remove_left_overs(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2 and file.read_text() == "half"


def test_another_hosts_must_have_rested(tmp_path):
    new, old = (tmp_path / f".{name}.other.7-00000000.partial" for name in ("new", "old"))
    foreign = tmp_path / ".movie.mkv.123.partial"  # another program's name, without our own part
    for path in (new, old, foreign):
        path.write_text("half")
    for path in (old, foreign):
        os.utime(path, (0, time.time() - 2 * REST))
    remove_left_overs(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([new, foreign])


def test_links_and_pipes_of_such_names_stay(tmp_path):
    (tmp_path / "kept").mkdir()
    aside_of(tmp_path / "link").symlink_to(tmp_path / "kept")
    os.mkfifo(aside_of(tmp_path / "pipe"))
    before = set(tmp_path.iterdir())
    remove_left_overs(tmp_path)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("renamed", [1, 2])
def test_a_folder_whose_replacement_was_killed_is_there_again(tmp_path, monkeypatch, renamed):
    """Killed after the first or the second of the two renames."""
    for name in ("model", "partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace, calls = os.replace, []

    def killed(*paths):
        replace(*paths)
        calls.append(paths)
        if len(calls) == renamed:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with contextlib.suppress(KeyboardInterrupt):
        replace_directory(tmp_path / "partial", tmp_path / "model")
    remove_left_overs(tmp_path)
    assert (tmp_path / "model" / ("model" if renamed == 1 else "partial")).exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_locks_only_what_ended_processes_wrote_is_removed(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks")

    monkeypatch.setattr(left_overs, "try_lock", none)
    live = aside_of(tmp_path / "live")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".dead.{left_overs.HOST}.{ended.pid}-00000000.partial"
    for path in (live, dead):
        path.touch()
    remove_left_overs(tmp_path)
    assert list(tmp_path.iterdir()) == [live]

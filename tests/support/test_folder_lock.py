"""One writer at a time: who is refused, who may share, and locks of killed processes."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from uno_jax.support.errors import InUseError
from uno_jax.support.folder_lock import locked, locked_path

HOLDER = """
import sys, time
from pathlib import Path
from uno_jax.support.folder_lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""

FORKING = """
import os, sys, time
from pathlib import Path
from uno_jax.support.folder_lock import locked
with locked(Path(sys.argv[1])):
    if not (child := os.fork()):
        os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(600)
"""


@contextlib.contextmanager
def holding(folder):
    """Another process that holds the lock of `folder`."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "locked\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def refused(folder, sharing=""):
    with pytest.raises(InUseError) as error, locked(folder, sharing):
        pass
    return str(error.value)


def test_the_second_is_told_who_the_first_is_and_a_killed_one_blocks_nobody(tmp_path):
    folder = tmp_path / "new" / "run"
    with holding(folder) as process:
        told = refused(folder)
        assert f"{folder} is in use by `-c {folder}` (process {process.pid} on " in told
        assert ", since 20" in told and "\n" not in told
        assert (folder / ".lock").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder / ".lock").exists()
    with locked(folder):
        pass
    assert list(folder.iterdir()) == []


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        with locked(tmp_path):
            os.kill(child, 0)
        os.kill(child, signal.SIGKILL)


def test_commands_of_equal_settings_share_a_folder(tmp_path):
    with locked(tmp_path, "these"):
        with locked(tmp_path, "these"):
            assert "is in use by `" in refused(tmp_path)
            assert "is in use by `" in refused(tmp_path, "others")
        refused(tmp_path)
    with locked(tmp_path):
        refused(tmp_path, "these")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_locked_beside_it_and_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to("file")
    with locked_path(tmp_path / "file"):
        with pytest.raises(InUseError), locked_path(tmp_path / "link"):
            pass
        with locked_path(tmp_path / "other"):
            pass
        assert (tmp_path / ".file.lock").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_refused_command_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError), locked(tmp_path / "new" / "deep"):
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_without_locks_a_warning_is_given(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    told = capsys.readouterr().err
    assert "has no locks (Operation not supported): start no second command" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    ["", "{}\n", "[" * 99, '{"command": 1}\n', "\0\n"],
    ids=["empty", "object", "deep", "torn", "nul"],
)
def test_any_content_of_a_lock_is_borne(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    with (tmp_path / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "is in use by another command" in refused(tmp_path)
    with locked(tmp_path):
        pass

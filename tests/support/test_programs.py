"""Programs end with the command that started them."""

import signal
import subprocess
import sys

import pytest

from uno_jax.support.errors import RecipeError
from uno_jax.support.programs import run_program

# A training in the small: at SIGTERM it saves, which takes a moment, and ends well.
SAVER = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit()
signal.signal(signal.SIGTERM, save)
print("started", flush=True)
time.sleep(60)
"""
COMMAND = """
import sys
from uno_jax.support.command_line import exit_on
from uno_jax.support.programs import run_program
with exit_on(OSError):
    run_program("stage 1", "saver", sys.argv[1])
    run_program("stage 2", "saver", sys.argv[1])
"""


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    (tmp_path / "saver.py").write_text(SAVER)
    (tmp_path / "failing.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")


def test_sigterm_ends_both_and_lets_the_program_save(tmp_path):
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "lora")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == f"stage 1: -m saver {tmp_path / 'lora'}\n"
        assert process.stdout.readline() == "started\n"
        process.terminate()
        assert process.wait(30) == 130
        assert (tmp_path / "lora").read_text() == "saved"
        assert process.stderr.read() == "error: interrupted\n" and process.stdout.read() == ""


def test_handlers_come_back_and_a_failure_is_named():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RecipeError, match="stage 1 failed with code 3; the same command continues"):
        run_program("stage 1", "failing")
    assert signal.getsignal(signal.SIGTERM) is before

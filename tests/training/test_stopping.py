"""Signals that ask a training to save and stop."""

import signal
import subprocess
import sys

import pytest

from uno_jax.training.stopping import stop_signal

BUSY = """
import time
from uno_jax.training.stopping import stop_signal
with stop_signal():
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_to_stop_and_its_handler_comes_back(number):
    before = signal.getsignal(number)
    with stop_signal() as stopping:
        assert not stopping(1)
        signal.raise_signal(number)
        assert stopping(2)
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signal() as stopping:
            signal.raise_signal(signal.SIGHUP)
            assert not stopping(1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_interrupt_ends_a_program_that_is_busy():
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        assert "Ctrl-C (again) ends at once" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT

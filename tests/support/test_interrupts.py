"""A second Ctrl-C ends a command that is busy in one long call; forks leave that to their parent."""

import signal
import subprocess
import sys
import time

import pytest

START = "import hashlib, os, signal, sys, threading\nfrom uno_jax.support.command_line import exit_on\n"
# One call, without Python's lock, so that another thread can say when it has long begun.
BUSY = """    threading.Timer(1.0, print, ('busy',), {'flush': True}).start()
    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""
FORK = """    if not os.fork():
        print(signal.set_wakeup_fd(-1), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture
def started():
    """Starts a program within `exit_on`."""
    running = []

    def start(lines):
        code = START + "with exit_on(OSError):\n    print('ready', flush=True)\n" + lines
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        assert running[-1].stdout.readline() == "ready\n"
        return running[-1]

    yield start
    for program in running:
        program.kill()
        program.communicate()


def test_a_second_interrupt_ends_one_long_call(started):
    program = started(BUSY)
    assert program.stdout.readline() == "busy\n"
    program.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.5)
    program.send_signal(signal.SIGINT)
    assert program.wait(60) == 130 and program.stderr.read() == "\nerror: interrupted\n"


def test_a_fork_does_not_tell_its_parent_of_its_signals(started):
    assert started(FORK).communicate()[0] == "-1\n"


def test_an_interrupt_while_unused_programs_compile_ends_at_once():
    code = """
import os, time, jax
from uno_jax.support.bounded_jit import bounded_jit, compile_ahead
from uno_jax.support.command_line import exit_on

@bounded_jit
def slow(x):
    os.write(1, b'compiling\\n')
    time.sleep(30)
    return x

with exit_on(OSError):
    compile_ahead(slow, jax.ShapeDtypeStruct((1,), float))
    raise OSError('no such picture')
"""
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout.readline() == "compiling\n"
        assert program.stderr.readline() == "error: no such picture\n"
        time.sleep(0.2)  # it is on its way out
        program.send_signal(signal.SIGINT)
        _, told = program.communicate(timeout=5)
        assert program.returncode == 130 and not told
    finally:
        program.kill()
        program.communicate()

"""How commands end: names that are no text, a closed pipe."""

import io
import subprocess
import sys

import jax
import pytest

from uno_jax.support.command_line import exit_on, print_any_name


def test_names_that_are_no_text_are_printed(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))
    print_any_name()
    print("wrote \udcff.png", flush=True)
    assert written.getvalue() == b"wrote \\udcff.png\n"


@pytest.mark.parametrize("lines", ["parse_args(Args, 'x', ['--help'])", "print(100_000 * 'line ')"])
def test_a_closed_pipe_ends_silently(lines):
    code = (
        "from dataclasses import dataclass\n"
        "from uno_jax.support.command_line import exit_on, parse_args\n"
        "@dataclass\nclass Args:\n    option: int = 3\n"
        f"with exit_on(OSError):\n    input()\n    {lines}\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-u", "-c", code], text=True, **pipes) as program:
        program.stdout.close()
        program.stdin.write("\n")
        program.stdin.close()
        told = program.stderr.read()
    assert program.returncode == 141 and told == ""


def test_other_errors_are_told(capsys):
    with pytest.raises(SystemExit) as stop, exit_on(OSError):
        raise OSError("no space")
    assert stop.value.code == 2 and capsys.readouterr().err == "error: no space\n"


@pytest.mark.parametrize(("terminal", "red"), [(True, "\x1b[31mä\x1b[0m"), (False, "\\x1b[31mä\\x1b[0m")])
def test_control_characters_are_printed_as_escapes_but_colours_on_a_terminal(
    terminal, red, monkeypatch, capsys
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    with exit_on(OSError):
        print("wrote \x1b]0;a\x07b\r.png\tand \x1b[31mä\x1b[0m")
    assert capsys.readouterr().out == f"wrote \\x1b]0;a\\x07b\\r.png\tand {red}\n"


def test_a_platform_without_devices_is_reported(capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "none")
    with pytest.raises(SystemExit) as stop, exit_on(OSError):
        raise RuntimeError("Unable to initialize backend 'none': it is not known\nmore")
    told = "error: Unable to initialize backend 'none': it is not known; JAX_PLATFORMS is none\n"
    assert stop.value.code == 2 and capsys.readouterr().err == told


def test_too_little_memory_is_told(capsys):
    with pytest.raises(SystemExit) as stop, exit_on(OSError):
        raise MemoryError
    assert stop.value.code == 2 and capsys.readouterr().err == "error: out of memory\n"


@pytest.mark.parametrize("reason", ["Out of memory allocating 9 bytes", "YNNPACK operation failed: error"])
def test_too_little_memory_of_a_program_is_told(reason, capsys):
    with pytest.raises(SystemExit) as stop, exit_on(OSError):
        raise jax.errors.JaxRuntimeError(f"INTERNAL: {reason}")
    assert stop.value.code == 2 and f"out of device memory (INTERNAL: {reason})" in capsys.readouterr().err

"""Arguments that `uno-web` cannot use."""

import socket

import pytest

from tests.bad_input.outputs import bad_folders
from uno_jax.web import __main__ as web
from uno_jax.web.__main__ import main

CASES = [
    *((list(words), message) for words, message in bad_folders("--out")),
    (["--port", "70000"], "--port"),
    (["--max-upload", "0"], "--max-upload"),
    (["--host", "nosuch.invalid"], "--host nosuch.invalid --port 7860 cannot be listened at ("),
    (["--port", "0", "--model", "none"], "none"),
    (["--port", "0", "--lora", "none.safetensors"], "none.safetensors"),
    (["--port", "0", "--lora", "none:0.5"], "there is no LoRA for the strength"),
    (["--steps", "0"], "--steps"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)


def test_a_port_that_is_taken_is_told(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port} cannot be listened at (Address already in use" in refused(
            main, ["--port", str(port)]
        )


def test_without_gradio_the_extra_is_told(refused, monkeypatch):
    monkeypatch.setattr(web, "find_spec", lambda name: None)
    assert "the page needs gradio: pip install 'uno_jax[web]'" in refused(main, [])

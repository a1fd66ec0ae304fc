"""Arguments that `uno-web` cannot use."""

import sys

import pytest

from tests.bad_input.outputs import bad_folders
from uno_jax.web.__main__ import main

CASES = [
    *((list(words), message) for words, message in bad_folders("--out")),
    (["--port", "70000"], "--port"),
    (["--max-upload", "0"], "--max-upload"),
    (["--model", "none"], "none"),
    (["--lora", "none.safetensors"], "none.safetensors"),
    (["--lora", "none:0.5"], "there is no LoRA for the strength"),
    (["--steps", "0"], "--steps"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)


def test_without_gradio_the_extra_is_told(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "the page needs gradio: pip install 'uno_jax[web]'" in refused(main, [])

"""Prompts that are longer than the model reads are told, once each."""

import pytest

from tests.tiny_model import TINY
from uno_jax.sampling.generate import make_requests
from uno_jax.sampling.prompt_length import cut_prompts

LONG = "a dog " * 30  # the tiny model reads 15 tokens


def test_a_cut_prompt_is_told_once():
    (line,) = cut_prompts(TINY, [LONG, "a dog", LONG])
    assert line.startswith("warning: the prompt 'a dog a dog") and "of which the model reads 15" in line
    assert line.endswith("dog '") and cut_prompts(TINY, ["a dog", ""]) == []


def test_many_cut_prompts_are_counted():
    lines = cut_prompts(TINY, [f"{number} {LONG}" for number in range(5)])
    assert len(lines) == 4 and lines[-1] == "warning: 2 more prompts cut"
    assert max(map(len, cut_prompts(TINY, [LONG * 100]))) < 400


def test_generate_warns():
    with pytest.warns(UserWarning, match="the model reads 15; dropped"):
        make_requests(TINY, LONG, None, {})

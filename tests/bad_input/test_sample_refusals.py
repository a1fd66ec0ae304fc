"""Arguments that `uno-sample` cannot use."""

import pytest

from tests.bad_input.outputs import LONG, bad_files, bad_folders
from uno_jax.sample import main

MODEL = ["--model", "model"]
DOG = [*MODEL, "--prompt", "a dog"]
CASES = [
    *(([*DOG, *words], message) for words, message in bad_folders("--out") if words[1] != "a.png"),
    *(([*DOG, *words], message) for words, message in bad_files("--out", ".png")),
    ([*DOG, "--out", "a.png"], "pictures of other settings would be replaced: a.png"),
    ([*DOG, "--out", "pipe.png"], "pipe.png is a device or a pipe"),
    ([*DOG, "--out", "\udcff/new.jpg"], "pictures are written as .png"),
    ([*DOG, "--ref", ""], "--ref"),
    ([*DOG, "--ref"], "--ref names no picture"),
    ([*DOG, "--ref", "a.png", "--ref"], "--ref names no picture"),
    ([*DOG, "--ref", "\udcff.png"], ".png: no such picture"),
    ([*DOG, "--ref", LONG], LONG),
    ([*DOG, "--left", ""], "the path is empty"),
    ([*DOG, "--left", "empty"], "empty is a directory, expected a picture"),
    ([*DOG, "--left", "text.txt"], "text.txt: not a picture"),
    ([*MODEL, "--prompt", "\udcff"], "is invalid Unicode"),
    ([*DOG, "--negative", "\udcff"], "is invalid Unicode"),
    ([*DOG, "--negative", "a cat"], "needs classifier-free guidance: give true_cfg"),
    ([*DOG, "--cfg-interval", "0.5", "0.5"], "two rising times between 0 and 1, got 0.5 0.5"),
    ([*DOG, "--cfg-interval", "0.2", "0.9"], "cfg_interval says when classifier-free guidance acts"),
    (
        [*DOG, "--true-cfg", "2", "--steps", "2", "--cfg-interval", "0.01", "0.02"],
        "no step lies in cfg_interval 0.01 0.02: the 2 steps begin at 1, 0.",
    ),
    ([*DOG, "--cfg-interval", "0", "2"], "--cfg-interval must be at most 1"),
    ([*DOG, "--start-image", ""], "the path is empty"),
    ([*DOG, "--start-image", "text.txt"], "text.txt: not a picture"),
    ([*DOG, "--start-image", "a.png", "--strength", "0"], "--strength must be more than 0"),
    ([*DOG, "--start-image", "a.png", "--left", "a.png"], "do not go together"),
    ([*DOG, "--start-image", "a.png", "--mask", "empty"], "empty is a directory, expected a picture"),
    (
        [*DOG, "--start-image", "a.png", "--mask", "small.png"],
        "the mask has 32x32 pixels, its start image 64x64",
    ),
    ([*DOG, "--mask", "a.png"], "a mask says where a start image is drawn anew: give that image too"),
    ([*DOG, "--strength", "0.5"], "give --start-image too"),
    ([*MODEL, "--jobs", "pairs.json", "--mask", "a.png"], "--start-image and --mask go with --prompt"),
    ([*MODEL, "--jobs", "pairs.json", "--negative", "a"], "--negative goes with --prompt"),
    ([*MODEL, "--jobs", ""], "the path is empty"),
    ([*MODEL, "--jobs", "empty"], "empty is a directory, expected a file"),
    ([*MODEL, "--jobs", "a.png"], "a.png"),
    ([*MODEL, "--jobs", LONG * 20], "File name too long"),
    ([*DOG, "--jobs", "pairs.json"], "not both"),
    (["--like", ""], "the path is empty"),
    (["--like", "a.png"], "a.png holds no settings: --like takes a .png that uno-sample wrote"),
    (["--like", "empty"], "empty is a directory, expected a file"),
    (["--like", "text.txt"], "text.txt holds no settings"),
    ([*DOG, "--seed", "randomly"], "--seed"),
    ([*DOG, "--sheet", "--understand"], "leave out --sheet"),
    (["--prompt", "a", "--model", ""], "the model's name is empty"),
    (["--prompt", "a", "--model", "a.png"], "no model directory a.png"),
    (["--prompt", "a", "--model", "lora"], "lora is not a complete model"),
    (["--prompt", "a", "--model", "\udcff"], "no model directory"),
    (["--prompt", "a", "--model", LONG * 20], "File name too long"),
    ([*DOG, "--lora", ""], "the name of the LoRA is empty"),
    ([*DOG, "--lora", "empty"], "empty has no config.json"),
    ([*DOG, "--lora", "text.txt"], "text.txt"),
    ([*DOG, "--lora", "a.png"], "a.png"),
    ([*DOG, "--lora", "model"], "model has no config.json"),
    ([*DOG, "--lora", LONG * 20], "File name too long"),
    ([*DOG, "--lora", "lora:nan"], "the strength of the LoRA lora:nan must be a finite number"),
    ([*DOG, "--lora", "lora:1e9"], "must be at most 100, got 1,000,000,000"),
    ([*DOG, "--lora", "lora", "--lora", "none"], 'the LoRA "none" stands alone'),
    ([*DOG, "--lora", "lora", "--lora", "text.txt:0.5"], "text.txt"),
    ([*DOG, "--plan", "nowhere"], "--plan nowhere: expected local, a TPU"),
    ([*DOG, "--plan", "local", "--model", "none"], "no model directory none"),
    ([*DOG, "more"], "Unrecognized options: more"),
    ([*DOG, "--unope"], "Missing value for argument '--unope'"),
    ([*DOG, "--width", "1e3"], "--width"),
    ([*DOG, "--seed", ""], "--seed"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_refused(arguments, message, refused):
    assert message in refused(main, arguments)

"""Scone: networks, tokenizers and folders of BAGEL's files that lie, and jobs of strange turns."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hostile import lists, tensors
from benchmarks.hostile.case import Case, spoilt
from benchmarks.hostile.models import TORN

Record = dict[str, Any]
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json")
SETTINGS = ("llm_config.json", "vit_config.json", "config.json")
CONFIGS: dict[str, dict[str, Any]] = {
    "mot": {
        "zero heads": {"num_heads": 0},
        "three key heads": {"num_kv_heads": 3},
        "heads of text": {"num_heads": "4"},
        "no layers": {"num_layers": 0},
        "10**9 layers": {"num_layers": 10**9},
        "a huge vocabulary": {"vocab_size": 10**12},
        "a bridge outside": {"bridge_layer": 99},
        "a bridge of one layer": {"bridge_masked": [2]},
        "a bridge of text": {"bridge_masked": "29"},
        "a threshold of NaN": {"bridge_threshold": float("nan")},
        "a mark outside": {"bos_id": 10**6},
        "a negative mark": {"eos_id": -1},
        "an odd head": {"head_dim": 7},
        "a side of 0": {"latent_side": 0},
        "a theta of 0": {"rope_theta": 0},
        "no positions": {"max_positions": 0},
    },
    "vit": {
        "zero heads": {"num_heads": 0},
        "another width": {"hidden_size": 24},
        "a patch of 0": {"patch_size": 0},
        "a pooling of its own": {"pooling": "map"},
        "a grid of text": {"grid": "6"},
    },
}
NAN = float("nan")
VOCABULARIES: dict[str, Any] = {
    "negative ids": {"a": -1},
    "ids of 2**63": {"a": 2**63},
    "ids of fractions": {"a": 0.5},
    "ids of NaN": {"a": NAN},
    "ids of truths": {"a": True},
    "one id for all": {letter: 0 for letter in "abc"},
    "ids of text": {"a": "1"},
    "half a character": {"\ud83d": 0},
    "a long token": {"a" * 100_000: 0},
}
ADDED: dict[str, Any] = {
    "a list": [],
    "text for an id": {"first": {"content": "<|im_start|>"}},
    "a negative id": {"-1": {"content": "<|im_start|>"}},
    "an id of 5000 digits": {"9" * 5000: {"content": "<|im_start|>"}},
    "no content": {"260": {}},
    "empty content": {"260": {"content": ""}},
    "content of 1": {"260": {"content": 1}},
    "null": {"260": None},
    "a mark twice": {"260": {"content": "<|im_end|>"}, "261": {"content": "<|im_end|>"}},
}
MERGES = {
    "unknown tokens": b"#version: 0.2\nxx yy\n",
    "three parts": b"a b c\n",
    "one part": b"a\n",
    "100,000 lines": b"a b\n" * 100_000,
}
TURNS: dict[str, Any] = {
    "none": [],
    "text": "abc",
    "a number": [3],
    "null": [None],
    "text of 1": [{"text": 1}],
    "text of half a character": [{"text": "\ud83d"}],
    "a long text": [{"text": "dog " * 200_000}],
    "marks as text": [{"text": "<|im_end|><|vision_start|>"}],
    "control characters": [{"text": "\x1b[31m\0"}],
    "nothing in a turn": [{}],
    "a picture alone": [{"image_path": "0.png"}],
    "a picture of 1": [{"text": "a"}, {"image_path": 1}],
    "a picture that is absent": [{"text": "a"}, {"image_path": "none.png"}],
    "a folder as picture": [{"text": "a"}, {"image_path": "."}],
    "100 pictures": [{"image_path": "0.png"}] * 100 + [{"text": "a"}],
    "1000 texts": [{"text": "a"}] * 1000,
    "both in one": [{"text": "a", "image_path": "0.png"}],
    "another key": [{"text": "a", "role": "user"}],
    "an empty last text": [{"text": "a"}, {"text": " "}],
}


def cases() -> Iterator[Case]:
    yield from _networks()
    yield from _tokenizers()
    yield from _bagels()
    for name, turns in TURNS.items():
        content = json.dumps([{"turns": turns, "seed": 1}]).encode()
        # Of valid but long work only that it stops.
        long = name in ("100 pictures", "1000 texts")
        yield spoilt(
            "scone jobs", f"turns of {name}", make=partial(_write, "turns.json", content), works=long
        )
    for name, content in lists.contents().items():
        yield spoilt("scone jobs", f"list: {name}", make=partial(_write, "turns.json", content))


def _networks() -> Iterator[Case]:
    for network, changes in CONFIGS.items():
        for name, change in changes.items():
            make = partial(_change, f"scone/{network}/config.json", change)
            yield spoilt("scone draw", f"{network} with {name}", make=make)
        for name, spoil in TORN.items():
            yield spoilt("scone draw", f"{network} {name}", make=partial(_at, f"scone/{network}", spoil))


def _tokenizers() -> Iterator[Case]:
    contents = {
        **{f"vocab.json of {name}": ("vocab.json", _json(value)) for name, value in VOCABULARIES.items()},
        **{f"merges.txt of {name}": ("merges.txt", content) for name, content in MERGES.items()},
        **{
            f"added tokens of {name}": ("tokenizer_config.json", _json({"added_tokens_decoder": value}))
            for name, value in ADDED.items()
        },
        **{
            f"{file}: {name}": (file, content)
            for file in (*TOKENIZER, "tokenizer.json")
            for name, content in lists.contents().items()
        },
    }
    for name, (file, content) in contents.items():
        alone = file == "tokenizer.json"  # it is read where the first two are not there
        for base, folder in {"scone draw": "scone/tokenizer", "scone": "bagel"}.items():
            make = partial(_write_alone, f"{folder}/{file}", content, TOKENIZER[:2] if alone else ())
            yield spoilt(base, name, make=make)


def _bagels() -> Iterator[Case]:
    for file in SETTINGS:
        for name, content in lists.contents().items():
            yield spoilt("scone", f"{file}: {name}", make=partial(_write, f"bagel/{file}", content))
        for name, value in {"NaN": NAN, "text": "1", "null": None, "a list": [], "2**70": 2**70}.items():
            make = partial(_each_value, f"bagel/{file}", value)
            yield spoilt("scone", f"{file} with values of {name}", make=make)
    for name, content in tensors.files().items():
        for file in ("ema.safetensors", "ae.safetensors"):
            yield spoilt("scone", f"{file}: {name}", make=partial(_write, f"bagel/{file}", content))
    index = _json({"weight_map": {"a": "../../etc/passwd"}})
    yield spoilt(
        "scone", "an index that leads out", make=partial(_write, "bagel/ema.safetensors.index.json", index)
    )
    yield spoilt("flux", "BAGEL's weights", "--src", "bagel/ema.safetensors", given=("bagel",))
    yield spoilt("scone", "FLUX's weights", "--src", "sources/flux.safetensors", given=("sources",))
    yield spoilt("inspect", "BAGEL's folder", given=("bagel",))._replace(words=("inspect", "bagel"))


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _write(name: str, content: bytes, folder: Path) -> None:
    _write_alone(name, content, (), folder)


def _write_alone(name: str, content: bytes, gone: tuple[str, ...], folder: Path) -> None:
    """A file, and others of its folder removed."""
    path = folder / name
    path.write_bytes(content)
    for other in gone:
        (path.parent / other).unlink()


def _change(name: str, change: Record, folder: Path) -> None:
    path = folder / name
    record = json.loads(path.read_text())
    record["config"].update(change)
    path.write_text(json.dumps(record))


def _at(name: str, spoil: Callable[[Path], object], folder: Path) -> None:
    spoil(folder / name)


def _each_value(name: str, value: Any, folder: Path) -> None:
    """Every value in the file's object is replaced."""
    path = folder / name
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), value)))

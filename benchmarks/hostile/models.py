"""Model folders whose config.json was changed or whose files are torn."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.hostile.case import Case, spoilt

Record = dict[str, Any]
CORES = {"mmdit": "num_heads", "vae": "groups", "t5": "num_heads", "clip": "num_heads"}


def cases() -> Iterator[Case]:
    for network, heads in CORES.items():
        changes: dict[str, Callable[[Record], object]] = {
            "zero heads": lambda record, heads=heads: record["config"].update({heads: 0}),
            "heads of text": lambda record, heads=heads: record["config"].update({heads: "4"}),
            "a huge width": lambda record: _widen(record, 10**12),
            "a negative width": lambda record: _widen(record, -8),
            "a width of NaN": lambda record: _widen(record, float("nan")),
            "a kind of a list": lambda record: record.update(kind=["mmdit"]),
            "another kind": lambda record: record.update(kind="vit"),
            "no config": lambda record: record.pop("config"),
            "a config of null": lambda record: record.update(config=None),
            "no params_bytes": lambda record: record.pop("params_bytes"),
            "an unknown field": lambda record: record["config"].update(extra=1),
            "format 2": lambda record: record.update(format=2),
        }
        for name, change in changes.items():
            make = partial(_change, network, change)
            yield _sample(f"{network} with {name}", make)
        for name, spoil in TORN.items():
            yield _sample(f"{network} {name}", partial(_spoil, network, spoil))
        deep = partial(_text, network, b"[" * 100_000)
        yield _sample(f"{network} config.json of 100,000 [", deep)
        yield spoilt("inspect", f"{network} config.json of 100,000 [", make=deep, given=("model",))
        train = ("--weights", "model")
        zero = partial(_change, network, changes["zero heads"])
        yield spoilt("train", f"{network} with zero heads", *train, make=zero, given=("model",))
        cut = partial(_spoil, network, TORN["params cut"])
        for base, words in {"train": train, "encode": train, "demo": ("--model", "model")}.items():
            yield spoilt(base, f"{network} params cut", *words, make=cut, given=("model",))
    for network in ("mmdit", "vae"):
        for base, option in {"flux": "--src", "vae": "--src", "pack model": "--model"}.items():
            for name, spoil in TORN.items():
                make = partial(_spoil, network, spoil)
                yield spoilt(base, f"of {network} {name}", option, "model", make=make, given=("model",))


def _sample(name: str, make: Callable[[Path], object]) -> Case:
    return spoilt("sample", name, "--model", "model", make=make, given=("model",))


def _widen(record: Record, width: Any) -> None:
    config = record["config"]
    name = next(
        name
        for name in config
        if "hidden" in name or "width" in name or name in ("d_model", "base_channels", "channels")
    )
    config[name] = width


def _change(network: str, change: Callable[[Record], object], folder: Path) -> None:
    path = folder / "model" / network / "config.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def _text(network: str, content: bytes, folder: Path) -> None:
    (folder / "model" / network / "config.json").write_bytes(content)


def _spoil(network: str, spoil: Callable[[Path], object], folder: Path) -> None:
    spoil(folder / "model" / network)


def _cut(folder: Path) -> None:
    path = folder / "params.safetensors"
    os.truncate(path, path.stat().st_size // 2)


def _noise(folder: Path) -> None:
    """Other bytes of the same number."""
    path = folder / "params.safetensors"
    path.write_bytes(b"\xa5" * path.stat().st_size)


def _replace(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / "params.safetensors").unlink()
        make(folder / "params.safetensors")

    return replace


TORN: dict[str, Callable[[Path], object]] = {
    "params cut": _cut,
    "params of other bytes": _noise,
    "params missing": lambda folder: (folder / "params.safetensors").unlink(),
    "params empty": lambda folder: (folder / "params.safetensors").write_bytes(b""),
    "params a folder": _replace(Path.mkdir),
    "params a pipe": _replace(os.mkfifo),
    "config.json missing": lambda folder: (folder / "config.json").unlink(),
}

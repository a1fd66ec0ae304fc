"""Names of files and folders that a terminal, a page or a file system may take otherwise."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.hostile.case import Case, spoilt

NAMES = {
    "a newline": "a\nb",
    "escape codes": "\x1b]0;owned\x07\x1b[31m",
    "bytes that are no UTF-8": "\udcff\udcfe",
    "250 characters": "n" * 250,
    "300 characters": "n" * 300,
    "dollars": "$HOME $(id) `id`",
    "a script": "<script>alert(1)<",
    "a leading dash": "-rf",
    "two leading dashes": "--help",
    "spaces": " a b ",
    "dots": "..",
    "braces": "{0} {prompt} %s",
    "a tilde": "~root",
    "half a pair": "\udced\udca0\udc80",
    "right to left": "\u202egnp.a",
}
OUTPUTS = {
    "sample": ("--out", ""),
    "check": ("--write", ".json"),
    "pack": ("--out", ""),
    "encode": ("--out", ""),
    "toybox": ("--out", ""),
    "device": ("--out", ".npz"),
    "sheet": ("--out", ".png"),
    "report": ("--out", ".html"),
    "train_small": ("--out", ""),
    "vae": ("--dst", ""),
    "export": ("--dst", ".safetensors"),
    "lora": ("--dst", ""),
    "export-lora": ("--dst", ".safetensors"),
    "import": ("--run", ""),
    "judge": ("--out", ""),
    "single": ("--out", ""),
}


def cases() -> Iterator[Case]:
    for called, name in NAMES.items():
        for base, (option, suffix) in OUTPUTS.items():
            # With = a name may begin with a dash.
            yield spoilt(base, f"{option} named {called}", f"{option}={name}{suffix}")
        if len(name) < 255 and name != "..":
            words = ("evaluated", f"./{name}", "--out", "new.html")
            run = spoilt("report", f"a run named {called}", make=partial(_rename, name))
            yield run._replace(words=words)
        if len(name) < 240:  # with a suffix
            yield from _inputs(called, name)


def _inputs(called: str, name: str) -> Iterator[Case]:
    words = (f"--ref=./{name}.png",)
    yield spoilt("sample", f"--ref named {called}", *words, make=partial(_touch, f"{name}.png"))
    yield spoilt("sample", f"--model named {called}", f"--model={name}")
    yield spoilt("sample", f"--prompt of {called}", f"--prompt={name}")
    yield spoilt("train", f"--trainable of {called}", f"--trainable=lora/{name}(")
    yield spoilt("inspect", f"a file named {called}", make=partial(_inspect, name), given=())._replace(
        words=("inspect", f"./{name}.safetensors")
    )
    yield spoilt("judge", f"--model of {called}", f"--model={name}")
    yield spoilt("ablate", f"--only of {called}", f"--only={name}")
    yield spoilt("stage taxonomy", f"--taxonomy.path named {called}", f"--taxonomy.path={name}")


def _rename(name: str, folder: Path) -> None:
    (folder / "finished").rename(folder / name)


def _touch(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"no picture")


def _inspect(name: str, folder: Path) -> None:
    (folder / "sources/lora.safetensors").rename(folder / f"{name}.safetensors")

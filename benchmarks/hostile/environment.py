"""Environments in which little can be taken for granted: no home, plain ASCII, an odd temporary folder."""

from collections.abc import Iterator, Mapping

from benchmarks.hostile.case import REFUSED, Case, spoilt

ENVIRONMENTS: dict[str, Mapping[str, str | None]] = {
    "ASCII alone": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None},
    "strict ASCII": {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C", "PYTHONUTF8": "0"},
    "no home": {"HOME": None, "XDG_CACHE_HOME": None, "JAX_COMPILATION_CACHE_DIR": None},
    "a home of a file": {"HOME": "/dev/null", "XDG_CACHE_HOME": None, "JAX_COMPILATION_CACHE_DIR": None},
    "no columns": {"COLUMNS": "0", "LINES": "text"},
    "an unknown locale": {"LC_ALL": "xx_YY.none"},
}
BASES = ("check", "report", "toybox", "sample", "inspect", "stage report")
UNPRINTABLE = {"no UTF-8": "\udcff\udcfe", "umlauts": "ä日本"}
OUTPUTS = {"check": "--write", "pack": "--out", "toybox": "--out", "report": "--out", "export-lora": "--dst"}
SUFFIXES = {"check": ".json", "report": ".html", "export-lora": ".safetensors"}


def cases() -> Iterator[Case]:
    for name, env in ENVIRONMENTS.items():
        for base in BASES:
            yield spoilt(base, name, env=env, codes=(0,))
    strict = ENVIRONMENTS["strict ASCII"]
    for called, name in UNPRINTABLE.items():
        for base, option in OUTPUTS.items():
            word = f"{option}={name}{SUFFIXES.get(base, '')}"
            yield spoilt(base, f"{option} of {called} printed in ASCII", word, env=strict)
    yield spoilt("sample", "a backend that is not there", env={"JAX_PLATFORMS": "none"}, codes=(REFUSED,))

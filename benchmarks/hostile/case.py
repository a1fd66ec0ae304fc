"""What a case is, and the tiny valid command lines that cases spoil in one place."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from uno_jax.small_training.run import Minutes

REFUSED = 2
UNREAD = 141  # the reader of the output has gone


class Case(NamedTuple):
    """One command line in a folder of its own, and how it may end."""

    command: str
    """Module of the command, as python -m takes it."""
    name: str
    words: tuple[str, ...]
    make: Callable[[Path], object] | None = None
    """Makes or spoils files of the folder before the command starts."""
    given: tuple[str, ...] = ()
    """Parts of `given.PARTS` that are copied into the folder."""
    codes: tuple[int, ...] = (0, REFUSED)
    """Exit codes that are right."""
    check: Callable[[Path], str] | None = None
    """What is wrong with the folder afterwards; empty where nothing is."""
    env: Mapping[str, str | None] = {}
    """Variables of the environment, None to unset; with any the command starts as a fresh process."""
    stdout: str = ""
    """Where the output goes in place of a file: /dev/full, "closed", or "unread", a pipe without reader."""
    works: bool = False
    """Valid work that may take longer than anyone waits: then it must leave within seconds of SIGINT."""


class Base(NamedTuple):
    """A valid command line."""

    command: str
    words: tuple[str, ...]
    given: tuple[str, ...] = ()
    numbers: bool = True
    """Whether its numeric options are all tried; for commands that share their options one does."""
    works: bool = False
    """As of `Case`: a server stays until it is interrupted."""

    @property
    def subcommand(self) -> tuple[str, ...]:
        return tuple(word for word in self.words[:1] if not word.startswith("-"))


def _bases() -> Iterator[tuple[str, Base]]:
    small = ("--steps", "1", "--batch-size", "2")
    side = ("--width", "32", "--height", "32", "--ref-size", "32")
    recipe = ("--config", "recipe.py")
    scone = ("--model", "scone", "--batch-size", "2")
    drawn = (*scone, "--prompt", "a dog", "--ref", "0.png", "--out", "new")
    yield "scone draw", Base("uno_jax.sample", drawn, ("scone", "pairs"))
    turns = (*scone, "--jobs", "turns.json", "--out", "new")
    yield "scone jobs", Base("uno_jax.sample", turns, ("scone", "turns", "pairs"), numbers=False)
    asked = ("--model", "scone", "--prompt", "why", "--ref", "0.png", "--understand", "--max-tokens", "2")
    yield "scone answer", Base("uno_jax.sample", asked, ("scone", "pairs"), numbers=False)
    yield "sample", Base("uno_jax.sample", ("--prompt", "a dog", *side, *small, "--out", "new"))
    jobs = ("--jobs", "pairs.json", *side, *small, "--out", "new")
    yield "jobs", Base("uno_jax.sample", jobs, ("pairs",), numbers=False)
    plan = ("--plan", "local", "--prompt", "a dog", *side, *small)
    yield "plan", Base("uno_jax.sample", plan, numbers=False)
    check = ("check", "pairs.json", "--write", "new.json")
    yield "check", Base("uno_jax.data", check, ("pairs",))
    yield "pack", Base("uno_jax.data", ("pack", "pairs.json", "--out", "new"), ("pairs",))
    yield "train", Base("uno_jax.train", (*recipe, "--workdir", "new"), ("pairs", "recipe"))
    yield "encode", Base("uno_jax.encodings", (*recipe, "--out", "new"), ("pairs", "recipe"))
    toybox = ("toybox", "--count", "2", *small, "--scorer", "scorer", "--out", "new")
    yield "toybox suite", Base("uno_jax.evaluate", toybox, ("scorer",))
    bench = ("--data", "photos", "--lists", "list.json", "--encoders", "encoders", *side, *small)
    for suite in ("single", "multi"):
        words = (f"dreambench-{suite}", *bench, "--out", "new")
        yield suite, Base("uno_jax.evaluate", words, ("dreambench", "encoders"))
    listed = ("list", "--lists", "pairs.json", *side, *small, "--out", "new")
    yield "list suite", Base("uno_jax.evaluate", listed, ("pairs",))
    yield "web", Base("uno_jax.web", ("--port", "0", *small, "--out", "new"), works=True)
    ceilings = ("--scorer", "scorer", "--size", "32", "--count", "2")
    yield "ceilings", Base("uno_jax.evaluation", ceilings, ("scorer",))
    yield "toybox", Base("uno_jax.toybox", ("--count", "2", "--size", "32", "--out", "new"))
    drawn = ("--per-scene", "1", "--side", "64", "--processes", "1", "--out", "new.npz")
    yield "device", Base("uno_jax.toybox.device", drawn)
    sheet = ("--bank", "bank.npz", "--size", "32", "--out", "new.png")
    yield "sheet", Base("uno_jax.toybox.device.sheet", sheet, ("bank",))
    yield "uno", Base("uno_jax", ("data", *check), ("pairs",), numbers=False)
    yield "ablate", Base("uno_jax.ablate", ("--config", "ablation.py", "--out", "new"), ("pairs", "ablation"))
    report = ("evaluated", "finished", "--out", "new.html")
    yield "report", Base("uno_jax.report", report, ("evaluated", "finished"))
    # No part has minutes, so that it ends once all is checked; one that gets some ends when it is compiled.
    parts = dataclasses.fields(Minutes)
    none = tuple(word for part in parts for word in (f"--minutes.{part.name}", "0"))
    yield "train_small", Base("uno_jax.train_small", (*none, "--most-minutes", "0.01", "--out", "new"))
    yield "demo", Base("uno_jax.demo", ("--out", "new", "--seconds", "1"))
    convert = "tools.convert_weights"
    for kind in ("flux", "vae", "t5", "clip"):
        words = (kind, "--src", f"sources/{kind}.safetensors", "--dst", "new")
        yield kind, Base(convert, words, ("sources",))
    yield "scone", Base(convert, ("scone", "--src", "bagel", "--dst", "new"), ("bagel",))
    yield "export", Base(convert, ("vae", "--src", "small", "--dst", "new.safetensors"))
    yield "pipeline", Base(convert, ("pipeline", "--src", "sources", "--dst", "new"), ("sources",))
    yield "vit", Base(convert, ("vit", "--src", "sources/vae.safetensors", "--dst", "new"), ("sources",))
    yield "efficientnet", Base(convert, ("efficientnet", "--dst", "new"))
    yield "lpips", Base(convert, ("lpips", "--dst", "new"))
    lora = ("lora", "--src", "sources/lora.safetensors", "--dst", "new", "--base", "small")
    yield "lora", Base(convert, lora, ("sources",))
    exported = ("export-lora", "--src", "small", "--dst", "new.safetensors", "--format", "uno")
    yield "export-lora", Base(convert, exported)
    yield "pack model", Base(convert, ("pack", "--model", "small", "--dst", "new"))
    yield "inspect", Base(convert, ("inspect", "sources/vae.safetensors"), ("sources",))
    yield "verify", Base(convert, ("verify", "--golden", "sources"), ("sources",))
    synth = "tools.synthesize_data"
    pairs = ("import", "--run", "new", "--config", "small", "--source", "pairs.json")
    yield "import", Base(synth, pairs, ("pairs",), numbers=False)
    stages = ("taxonomy", "subjects", "scenes", "diptychs", "generate", "split", "filter-dino", "filter-vlm")
    after = ("detect", "second-reference", "hashes", "export", "report", "run")
    for stage in (*stages, *after):
        words = (stage, "--run", "synthesis")
        yield f"stage {stage}", Base(synth, words, ("synthesis",), numbers=stage == "taxonomy")
    marks = ("marks", "--run", "synthesis", "--source", "marks.json")
    yield "marks", Base(synth, marks, ("synthesis",), numbers=False)
    model = ("--model", "none", "--endpoint", "http://127.0.0.1:9/v1", "--retries", "0", "--attempts", "1")
    judged = ("--list", "pairs.json", "--pictures", "drawn", *model, "--out", "new")
    yield "judge", Base("tools.vlm_judge", judged, ("pairs", "drawn"))
    evaluated = ("--evaluation", "evaluated", *model)
    yield "judge evaluation", Base("tools.vlm_judge", evaluated, ("evaluated",), numbers=False)


BASES = dict(_bases())


def spoilt(base: str, name: str, *words: str, **how: Any) -> Case:
    """A case of a base's command line with words added; an option that they name replaces the base's."""
    found = BASES[base]
    kept = without(found.words, {word.partition("=")[0] for word in words if word.startswith("--")})
    more, works = how.pop("given", ()), how.pop("works", found.works)
    given = tuple(dict.fromkeys((*found.given, *more)))
    return Case(found.command, f"{base}: {name}", (*kept, *words), given=given, works=works, **how)


def without(words: Iterable[str], options: set[str]) -> list[str]:
    """The words without these options and the values that follow them."""
    kept, dropping = [], False
    for word in words:
        if word.startswith("--"):
            dropping = word in options
        if not dropping:
            kept.append(word)
    return kept

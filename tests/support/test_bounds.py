"""Bounds of numbers: every number option of every command has them, and `parse_args` checks them."""

import dataclasses
import importlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import tyro

from tools.convert_weights.__main__ import Command as ConvertCommand
from tools.synthesize_data.command_line import SourceCommand, StageCommand
from tools.vlm_judge.__main__ import Args as JudgeArgs
from uno_jax import ablate, encodings, train
from uno_jax.apps.tour import TourArgs
from uno_jax.data.__main__ import Check, Pack
from uno_jax.evaluation import suites
from uno_jax.evaluation.toybox import ceilings
from uno_jax.reporting.write import ReportArgs
from uno_jax.sampling.settings import SampleArgs
from uno_jax.small_training.run import SmallArgs
from uno_jax.support.bounds import Bounds, Count, Seed, Share, check_bounds, declared_bounds
from uno_jax.toybox import __main__ as toybox
from uno_jax.toybox import draw
from uno_jax.toybox.device import __main__ as bank
from uno_jax.toybox.device import sheet

COMMANDS = (
    *(SampleArgs, train.Args, SmallArgs, encodings.Args, ablate.Args, suites.Args, ceilings.Args),
    *(Check, Pack, ReportArgs, TourArgs, toybox.Args, draw.Args, bank.Args, sheet.Args),
    *(StageCommand, SourceCommand, JudgeArgs, ConvertCommand),
)


def numbers_without_bounds(kind: Any, name: str) -> list[str]:
    """The fields below a type that are numbers, and that no annotation bounds."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True).items()
        fields = {each.name for each in dataclasses.fields(kind)}
        return [
            found
            for key, hint in hints
            if key in fields
            for found in numbers_without_bounds(hint, f"{name}.{key}")
        ]
    if declared_bounds(kind):
        return []
    inner = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return [name] * (kind in (int, float)) + [
        found for each in inner for found in numbers_without_bounds(each, name)
    ]


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: getattr(kind, "__module__", str(kind)))
def test_every_number_of_a_command_has_bounds(kind):
    assert numbers_without_bounds(kind, getattr(kind, "__name__", "")) == []


def test_a_number_without_bounds_is_found():
    @dataclass(frozen=True)
    class Part:
        good: Count | None = None
        bad: tuple[float, ...] = ()

    @dataclass(frozen=True)
    class Whole:
        part: Annotated[Part, "a mark"] = Part()
        flag: bool = False

    assert numbers_without_bounds(Whole, "Whole") == ["Whole.part.bad"]


@pytest.mark.parametrize(
    ("bounds", "value", "problem"),
    [
        (Bounds(1, 10), 1, ""),
        (Bounds(1, 10), 10, ""),
        (Bounds(1, 10), 0, "must be at least 1, got 0"),
        (Bounds(1, 10_000), 1_000_000_000, "must be at most 10,000, got 1,000,000,000"),
        (Bounds(0, 1, above=True), 0.0, "must be more than 0, got 0.0"),
        (Bounds(0, 1, above=True), 1e-9, ""),
        (Bounds(0, 1), math.nan, "must be a finite number, got nan"),
        (Bounds(-math.inf, math.inf), -math.inf, "must be a finite number, got -inf"),
        (Bounds(0, 2**63 - 1), 2**70, "must be at most 9,223,372,036,854,775,807"),
    ],
)
def test_a_number_beyond_its_bounds_is_described(bounds, value, problem):
    told = bounds.problem(value)
    assert told.startswith(problem) and bool(told) == bool(problem)


@dataclass(frozen=True)
class Nested:
    share: Share | None = None
    sizes: tuple[Annotated[int, Bounds(1, 9)], ...] = ()


@dataclass(frozen=True)
class Settings:
    seed: Seed = 0
    free: float = 0.0
    nested_part: Nested = Nested()
    many: tuple[Nested, ...] = ()
    bare: Annotated[Nested, tyro.conf.arg(name="")] = field(default_factory=Nested)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Settings(), []),
        (Settings(seed=-1, free=math.inf), ["seed", "free"]),
        (Settings(nested_part=Nested(2.0, (1, 10, 0))), ["nested_part.share"] + ["nested_part.sizes"] * 2),
        (Settings(many=(Nested(), Nested(-0.5))), ["many[1].share"]),
        (Settings(bare=Nested(math.nan)), ["share"]),
    ],
)
def test_every_number_is_checked_under_the_name_of_its_option(settings, names):
    assert [problem.split()[0] for problem in check_bounds(settings)] == names


SAMPLE = ("uno_jax.sample", "--prompt", "a")
TRAIN = ("uno_jax.train", "--config", "configs/small_stage1.py")
ENCODE = ("uno_jax.encodings", "--config", "configs/small_stage1.py", "--out", "x")
SMALL = ("uno_jax.train_small", "--out", "x")
TOYBOX = ("uno_jax.toybox.__main__", "--out", "x")
JUDGE = ("tools.vlm_judge.__main__", "--model", "m", "--evaluation", "x")
SYNTH = ("tools.synthesize_data.__main__", "run", "--run", "x", "--config", "small")
HUGE = "1000000000"


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *((SAMPLE, option, HUGE) for option in ("--steps", "--num-images", "--ref-size", "--width")),
        *((SAMPLE, option, HUGE) for option in ("--batch-size", "--refs")),
        (SAMPLE, "--guidance", "nan"),
        (SAMPLE, "--true-cfg", "inf"),
        (SAMPLE, "--offset-scale", "-1"),
        (SAMPLE, "--seed", str(2**70)),
        *((TRAIN, option, HUGE) for option in ("--steps", "--lora.rank", "--batch-size", "--unroll")),
        (TRAIN, "--samples.ref-size", HUGE),
        (TRAIN, "--seed", str(2**70)),
        (TRAIN, "--seed", "-1"),
        (TRAIN, "--optim.decay-to", "nan"),
        (TRAIN, "--guidance", "nan"),
        (TRAIN, "--optim.b1", "1"),
        (TRAIN, "--data.workers", HUGE),
        (TRAIN, "--plan-refs", "-1"),
        (ENCODE, "--per-shard", "0"),
        (ENCODE, "--data.resolution", "60000"),
        (SMALL, "--minutes.autoencoder", "-1"),
        (SMALL, "--minutes.base", "nan"),
        (SMALL, "--most-minutes", "0"),
        (SMALL, "--batch-share", "inf"),
        (SMALL, "--watch-count", "-3"),
        (SMALL, "--seed", str(2**63)),
        (TOYBOX, "--count", HUGE),
        (TOYBOX, "--seed", "-1"),
        (("uno_jax.toybox.device.__main__",), "--per-scene", HUGE),
        (("uno_jax.toybox.draw", "--jobs", "x", "--out", "x"), "--size", "0"),
        (("uno_jax.evaluate", "toybox"), "--count", HUGE),
        (("uno_jax.evaluate", "dreambench-multi", "--data", "x"), "--subjects", "5"),
        (("uno_jax.evaluate", "dreambench-single", "--data", "x"), "--num-images", HUGE),
        (("uno_jax.evaluate", "dreambench-single", "--data", "x"), "--resolutions", "8"),
        (("uno_jax.data.__main__", "pack", "x", "--out", "x"), "--max-bad-share", "nan"),
        (("uno_jax.data.__main__", "check", "x"), "--min-score", "7"),
        (("uno_jax.report", "x"), "--thumbnail", "60000"),
        (("uno_jax.demo",), "--seconds", "nan"),
        (JUDGE, "--rounds", HUGE),
        (JUDGE, "--temperature", "nan"),
        (SYNTH, "--diptychs.seed", "-1"),
        (SYNTH, "--generate.steps", HUGE),
        (SYNTH, "--filter-dino.threshold", "2"),
        (SYNTH, "--llm.timeout", "0"),
    ],
)
def test_a_command_refuses_a_number_beyond_its_bounds(command, option, value, tmp_path, monkeypatch, capsys):
    repository = Path(__file__).parents[2]
    module, *words = command
    words = [str(repository / word) if word.startswith("configs/") else word for word in words]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(module).main([*words, option, value])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.startswith(f"error: {option} must be "), told
    assert len(told.splitlines()) == 1 and not list(tmp_path.iterdir())

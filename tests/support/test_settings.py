"""Settings survive JSON with their types; what another program or a hand wrote is refused by field."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest

from tools.synthesize_data.config import SynthConfig
from tools.synthesize_data.config_files import PRESETS as SYNTH_PRESETS
from tools.synthesize_data.config_files import load_config
from uno_jax.families.registry import PRESETS
from uno_jax.support.settings import from_dict, to_dict
from uno_jax.training.config import TrainConfig
from uno_jax.training.recipes import load_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
OTHERS = ("__init__", "_ablation", "_coevolution")
RECIPES = sorted(path for path in CONFIGS.glob("*.py") if not path.stem.endswith(OTHERS))
SETTINGS = {
    **{name: lambda name=name: PRESETS[name] for name in PRESETS},
    **{path.stem: lambda path=path: load_recipe(str(path)) for path in RECIPES},
    **{path.stem: lambda path=path: load_config(path.stem) for path in SYNTH_PRESETS.glob("[!_]*.py")},
}


@dataclasses.dataclass(frozen=True)
class Part:
    size: tuple[int, int]
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Whole:
    first: Part
    others: tuple[Part, ...] = ()
    kind: Literal["a", "b"] = "a"
    shares: tuple[float, ...] | None = None
    flag: bool = False
    count: int = 0
    name: str = ""


WHOLE = Whole(Part((1, 2)), (Part((3, 4), 0.5), Part((5, 6))), "b", (0.5, 1.0), True, 3, "c")


@pytest.mark.parametrize("name", SETTINGS)
def test_presets_and_recipes_survive_json(name):
    config = SETTINGS[name]()
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


def test_nested_settings_survive_json():
    assert from_dict(Whole, to_dict(WHOLE)) == WHOLE
    assert from_dict(Whole, {"first": {"size": [1, 2]}}) == Whole(Part((1, 2)))


def test_integers_for_floats_stay_as_they_are():
    read = from_dict(Part, {"size": [1, 2], "scale": 2})
    assert read.scale == 2 and type(read.scale) is int  # as a record that is compared by its JSON needs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 1}, r"Whole has no field size; it has first, others, kind, shares, flag, count, name"),
        ({"first": {"size": [1, 2], "depth": 1}}, "Part has no field depth; it has size, scale"),
        ({"first": {}}, r"Whole\.first lacks size"),
        ({"first": None}, r"Whole\.first must be Part, got None"),
        ({"first": {"size": [1, 2, 3]}}, r"Whole\.first\.size must be tuple\[int, int\], got \[1, 2, 3\]"),
        ({"first": {"size": [1, "2"]}}, r"Whole\.first\.size\[1\] must be int, got '2'"),
        ({"others": {"size": [1, 2]}}, r"Whole\.others must be tuple.*Part, \.\.\.\], got {"),
        ({"others": [{"size": [1, 2]}, {"size": [1, 2.5]}]}, r"Whole\.others\[1\]\.size\[1\] must be int"),
        ({"kind": "c"}, r"Whole\.kind must be one of 'a', 'b', got 'c'"),
        ({"kind": ["a"]}, r"Whole\.kind must be"),
        ({"shares": 0.5}, r"Whole\.shares must be tuple\[float, \.\.\.\], got 0\.5"),
        ({"shares": [True]}, r"Whole\.shares\[0\] must be float, got True"),
        ({"flag": 1}, r"Whole\.flag must be bool, got 1"),
        ({"count": True}, r"Whole\.count must be int, got True"),
        ({"count": 1.0}, r"Whole\.count must be int, got 1\.0"),
        ({"count": None}, r"Whole\.count must be int, got None"),
        ({"name": 1}, r"Whole\.name must be str, got 1"),
    ],
)
def test_other_settings_are_refused_by_field(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Whole, to_dict(WHOLE) | change)


@pytest.mark.parametrize("values", [None, [], "x", 1])
def test_what_is_no_record_is_refused(values):
    with pytest.raises(ValueError, match="Whole must be Whole, got"):
        from_dict(Whole, values)


def test_deep_settings_are_named_by_their_place():
    values = to_dict(SynthConfig())
    values["filter_vlm"]["model"]["retries"] = "4"
    with pytest.raises(ValueError, match=r"SynthConfig\.filter_vlm\.model\.retries must be int, got '4'"):
        from_dict(SynthConfig, values)
    values = to_dict(TrainConfig())
    values["data"]["sources"] = [{"weight": 1.0}]
    with pytest.raises(ValueError, match=r"TrainConfig\.data\.sources\[0\] lacks path"):
        from_dict(TrainConfig, values)

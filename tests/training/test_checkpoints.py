"""Recipes of checkpoints: which runs a recipe continues, whatever version of this program wrote them."""

import dataclasses
import re

import pytest

from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.support.settings import to_dict
from uno_jax.training.checkpoints import RECIPE_VERSION, changed_fields, complete_recipe
from uno_jax.training.config import MeshConfig, OptimConfig, TrainConfig

CONFIG = TrainConfig(
    batch_size=2, data=DataConfig(sources=(SourceConfig("a.json"), SourceConfig("b.json", weight=2.0)))
)


def changes(recorded, **fields):
    return changed_fields(complete_recipe(recorded), to_dict(dataclasses.replace(CONFIG, **fields)))


def test_the_recipe_itself_is_continued():
    assert changes({"version": RECIPE_VERSION, **to_dict(CONFIG)}) == []


@pytest.mark.parametrize(
    "path", [("unroll",), ("completion",), ("data", "max_bad_share"), ("optim", "ema_decay"), ("samples",)]
)
def test_a_field_that_the_recipe_lacks_has_its_default(path):
    recorded = to_dict(CONFIG)
    part = recorded
    for name in path[:-1]:
        part = part[name]
    del part[path[-1]]
    assert changes(recorded) == []


def test_a_field_that_a_source_lacks_has_its_default():
    recorded = to_dict(CONFIG)
    for source in recorded["data"]["sources"]:
        del source["size"], source["root"]
    assert changes(recorded) == []
    assert "data.sources: " in changes(recorded, data=DataConfig(sources=(SourceConfig("a.json"),)))[0]


def test_a_lacking_field_is_compared_by_its_default():
    recorded = to_dict(CONFIG)
    del recorded["completion"]
    assert changes(recorded, completion=0.5) == ["completion: 0.0 -> 0.5"]


@pytest.mark.parametrize(
    "fields",
    [
        {"remat": "none"},
        {"unroll": 2},
        {"mesh": MeshConfig(data=2, fsdp=1)},
        {"log_every": 1, "checkpoint_every": 7, "keep_every": 3},
        {"data": dataclasses.replace(CONFIG.data, workers=3, threads=5)},
        {"steps": 9},
    ],
    ids=lambda fields: ",".join(fields),
)
def test_what_computes_the_same_may_change(fields):
    assert changes(to_dict(CONFIG), **fields) == []


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({"batch_size": 4}, "batch_size: 2 -> 4"),
        ({"accumulate": 2}, "accumulate: 1 -> 2"),
        ({"dtype": "float32"}, 'dtype: "bfloat16" -> "float32"'),
        ({"data": dataclasses.replace(CONFIG.data, text_dropout=0.0)}, "data.text_dropout: 0.1 -> 0.0"),
        ({"optim": OptimConfig(b1=0.5)}, "optim.b1: 0.9 -> 0.5"),
    ],
    ids=str,
)
def test_what_computes_something_else_is_named(fields, change):
    assert changes(to_dict(CONFIG), **fields) == [change]


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        ([], "expected an object, got []"),
        (None, "expected an object, got None"),
        ({"version": RECIPE_VERSION + 1}, "is later than this program's, 1; update it"),
        ({"version": "one"}, "version 'one' is later"),
        ({"steps": "many"}, "TrainConfig.steps must be int, got 'many'"),
        ({"optim": None}, "TrainConfig.optim must be OptimConfig, got None"),
        ({"data": {"sources": [{}]}}, "sources[0] lacks path"),
        ({"colour": 1}, "TrainConfig has no field colour"),
        ({"lora": {"rank": 0}}, "LoRA rank must be at least 1"),
    ],
    ids=str,
)
def test_another_record_is_told(recorded, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        complete_recipe(recorded)

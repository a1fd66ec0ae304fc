"""A second family, made only of new files and registry rows, is stored, loaded, trained and sampled."""

import json
from dataclasses import dataclass, fields
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.lists import write_list
from tests.tiny_model import random_params
from uno_jax import generate, load_model
from uno_jax.data.config import DataConfig
from uno_jax.families import autoencoder, registry
from uno_jax.families.family import Drawn, Family, Objective, Sampler, Trainer
from uno_jax.families.model import Model
from uno_jax.families.uno.config import PRESETS
from uno_jax.networks.registry import NETWORKS, Network, apply
from uno_jax.networks.vae import VAEConfig
from uno_jax.sample import main as sample
from uno_jax.support.images import prepare_reference
from uno_jax.training.config import TrainConfig
from uno_jax.training.plan import plan_training
from uno_jax.training.run import train
from uno_jax.training.state import networks_of
from uno_jax.weights.checkpoint import read_model, restore_network, save_network


@dataclass(frozen=True)
class PainterConfig:
    side: int = 16


class Painter(nn.Module):
    """A network that learns one picture, shifted by a seed."""

    config: PainterConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, seeds: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.normal(), ("height", "width", "channels"))
        picture = self.param("picture", init, (self.config.side, self.config.side, 3))
        return jnp.tanh(picture + 0.01 * seeds[:, None, None, None])


@dataclass(frozen=True)
class Defaults:
    resolution: int = 16


@dataclass(frozen=True)
class PainterModel:
    painter: PainterConfig = PainterConfig()
    vae: VAEConfig = PRESETS["tiny"].vae
    defaults: Defaults = Defaults()


@dataclass(frozen=True)
class PainterSettings:
    steps: int = 1

    def record(self, width, height):
        return {"steps": self.steps}


class Batch(NamedTuple):
    target: jax.Array


def make_loss(config, model):
    def loss(params, batch, key):
        drawn = apply(model.painter, {"params": params["painter"]}, jnp.zeros(len(batch.target)))
        return jnp.mean(jnp.square(drawn))

    return loss


PAINTER = Family(
    name="painter",
    config=PainterModel,
    defaults=Defaults,
    core="painter",
    presets={"painter": PainterModel()},
    sampler=Sampler(
        make_settings=lambda config, steps=1: PainterSettings(steps),
        options=("steps",),
        check_size=lambda config, width, height: None,
        reference_side=lambda config, count, ref_size: ref_size or 16,
        prepare_reference=prepare_reference,
        sample=lambda model, inputs, settings, watch: Drawn(
            np.asarray(
                apply(
                    model.config.painter, {"params": model.params["painter"]}, inputs.seeds.astype(np.float32)
                )
            )
        ),
        plan=lambda *_: {},
    ),
    trainer=Trainer(
        objectives={
            "flow": Objective(("painter",), make_loss),
            "autoencoder": Objective(("vae",), autoencoder.make_loss),
        },
        encoders={},
        tokenize=lambda config, prompts: {},
        make_batch=lambda config, parts: Batch(parts.target),
        abstract_batch=lambda model, sizes, *_: Batch(
            jax.ShapeDtypeStruct((sizes.batch, 16, 16, 3), np.float32)
        ),
    ),
)


@pytest.fixture
def painter(monkeypatch, tmp_path):
    """The family registered, and a model of it on disk."""
    row = Network("painter", PainterConfig, Painter, lambda config: (jnp.zeros(1),))
    monkeypatch.setitem(NETWORKS, "painter", row)
    registry.FAMILIES.append(PAINTER)
    monkeypatch.setitem(registry.PRESETS, "painter", PAINTER.presets["painter"])
    model = PainterModel(defaults=Defaults(16))
    for kind in PAINTER.networks:
        part = getattr(model, kind)
        save_network(tmp_path / "model" / kind, part, random_params(part, 0), defaults=model.defaults)
    yield tmp_path / "model"
    registry.FAMILIES.remove(PAINTER)


def test_it_is_told_from_the_first_by_its_folders(painter):
    assert PAINTER.networks == ("painter", "vae")
    assert read_model(painter) == PainterModel()
    assert isinstance(load_model(painter), Model)


def test_it_samples_by_the_same_api_and_command(painter, tmp_path, capsys):
    pictures = generate(load_model(painter), ["a", "b"], seed=3)
    assert [picture.size for picture in pictures] == [(16, 16)] * 2
    sample(["--model", str(painter), "--prompt", "a", "--out", str(tmp_path / "a.png")])
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["steps"] == 1 and "guidance" not in record
    with pytest.raises(SystemExit):
        sample(["--model", str(painter), "--prompt", "a", "--guidance", "3", "--out", str(tmp_path)])
    assert "this model does not take guidance; it takes steps" in capsys.readouterr().err


def test_it_trains_by_the_same_recipes(painter, tmp_path, capsys):
    path = write_list(tmp_path, 4)
    data = DataConfig(path=str(path), resolution=32, ref_resolution=32, threads=1)
    config = TrainConfig(
        preset="painter",
        weights=str(painter),
        trainable=("painter/.*",),
        data=data,
        workdir=str(tmp_path / "run"),
        steps=2,
        batch_size=2,
    )
    assert networks_of(config) == ("painter",)
    plan_training(config, "local", 0)
    assert "768 trained and 0 frozen parameters" in capsys.readouterr().out
    state = train(config)
    trained = state.trainable["painter"]["picture"]
    before = restore_network(painter / "painter")[1]["picture"]
    assert jnp.sum(jnp.square(jnp.tanh(trained))) < jnp.sum(jnp.square(jnp.tanh(before)))
    stored = restore_network(tmp_path / "run" / "model" / "painter")[1]["picture"]
    np.testing.assert_array_equal(stored, trained)


@pytest.mark.parametrize("family", registry.FAMILIES, ids=lambda family: family.name)
def test_sampling_defaults_are_stored_beside_the_networks_fields(family):
    """In one record, so that none may have a name of the other."""
    network = NETWORKS[family.core].config
    assert not {field.name for field in fields(network)} & {field.name for field in fields(family.defaults)}

"""`verify` on the recorded folder of Scone: what it recomputes, what it leaves out, what it refuses."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.tiny_model import random_params
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.golden import SCONE
from tools.convert_weights.golden import scone
from tools.convert_weights.scone import export_scone
from tools.convert_weights.verify import left_out
from uno_jax.families.scone.config import EYES
from uno_jax.networks.mot import MoTConfig
from uno_jax.weights.checkpoint import save_network

RECORD = json.loads((SCONE / "config.json").read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the recorded sizes in BAGEL's names: positions and masks do not depend on them."""
    llm, eyes, marks = RECORD["llm_config"], RECORD["vit_config"], RECORD["special_tokens"]
    names = ("hidden_size", "intermediate_size", "vocab_size", "head_dim")
    decoder = MoTConfig(
        **{name: llm[name] for name in names},
        num_layers=llm["num_hidden_layers"],
        num_heads=llm["num_attention_heads"],
        num_kv_heads=llm["num_key_value_heads"],
        latent_side=RECORD["max_latent_size"],
        vit_size=eyes["hidden_size"],
        vit_side=RECORD["vit_max_num_patch_per_side"],
        bos_id=marks["bos_token_id"],
        eos_id=marks["eos_token_id"],
        image_start_id=marks["start_of_image"],
        image_end_id=marks["end_of_image"],
    )
    vit = replace(
        EYES,
        hidden_size=eyes["hidden_size"],
        intermediate_size=eyes["intermediate_size"],
        num_layers=eyes["num_hidden_layers"],
        num_heads=eyes["num_attention_heads"],
        grid=decoder.vit_side,
        resolution=decoder.vit_side * eyes["patch_size"],
    )
    folder = tmp_path_factory.mktemp("weights")
    for kind, config in {"mot": decoder, "vit": vit}.items():
        save_network(folder / kind, config, random_params(config, 0))
    return export_scone(folder, folder / "model.safetensors")


@pytest.fixture
def folder(weights, tmp_path):
    """A recording with the outputs that match a pattern, and with changes."""

    def folder(pattern, **changes):
        (tmp_path / "golden").mkdir()
        shutil.copy(SCONE / "config.json", tmp_path / "golden")
        shutil.copy(weights, tmp_path / "golden")
        with np.load(SCONE / "golden.npz") as recorded:
            arrays = {
                key: recorded[key]
                for key in recorded
                if re.match(pattern, key)
                or scone.INPUTS.fullmatch(key)
                or re.match("(drop_|xcheck_)?in/sample_lens", key)
            }
        np.savez(tmp_path / "golden" / "golden.npz", **arrays | changes)
        return tmp_path / "golden"

    return folder


def rows(capsys):
    """The lines of arrays: key, error, relative."""
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {line[0]: float(line[2]) for line in lines[1:] if len(line) == 3}


def test_every_recorded_array_is_known():
    keys = json.loads((SCONE / "keys.json").read_text())
    kinds = Counter(left_out(scone.SCONE, key) for key in keys)
    outputs = [key for key in keys if any(re.fullmatch(each, key) for each in scone.SCONE.outputs)]
    inputs = [key for key in keys if scone.INPUTS.fullmatch(key)]
    assert not set(outputs) & set(inputs)
    assert len(outputs) == 460 and len(outputs) + len(inputs) == kinds[""]
    assert kinds == {"": 494, "training": 190, "options that no model uses": 3}


def test_integers_and_masks_are_equal(folder, capsys):
    assert run("verify", "--golden", folder("(in|drop_in|xcheck_in|mix_in)/|shared/rope")) == 0
    found = rows(capsys)
    assert (
        len(found) == 75 and {"drop_in/nested_attention_mask_0", "xcheck_in/mse_loss_indexes"} <= found.keys()
    )
    assert {key for key, error in found.items() if error > 0} <= {"shared/rope_cos", "shared/rope_sin"}


def test_one_integer_off_fails(folder, capsys):
    with np.load(SCONE / "golden.npz") as recorded:
        wrong = recorded["in/packed_position_ids"].copy()
    wrong[100] += 1
    assert run("verify", "--golden", folder("in/sample_lens", **{"in/packed_position_ids": wrong})) == 1
    assert rows(capsys)["in/packed_position_ids"] == np.inf


def test_unknown_arrays_and_a_config_that_lacks_a_part(folder, capsys):
    place = folder("in/sample_lens", **{"train_other/loss": np.zeros(1)})
    assert run("verify", "--golden", place) == 2
    assert "unknown arrays: train_other/loss" in capsys.readouterr().err
    record = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**record, "samples": None}))
    assert run("verify", "--golden", place) == 2
    assert "is not of a recording of Scone's: it lacks samples" in capsys.readouterr().err

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
from tools.convert_weights.golden import scone, scone_forward, scone_training
from tools.convert_weights.golden.recording import compare
from tools.convert_weights.golden.scone_folder import load_golden
from tools.convert_weights.scone import export_scone
from tools.convert_weights.verify import left_out
from uno_jax.families.scone.config import EYES
from uno_jax.networks.mot import MoTConfig
from uno_jax.weights.checkpoint import save_network
from uno_jax.weights.safetensors_file import read_header

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
    assert len(outputs) == 641 and len(outputs) + len(inputs) == kinds[""]
    assert kinds == {"": 684, "options that no model uses": 3}


def test_parameters_have_the_names_and_the_freezing_of_the_reference(folder):
    golden = load_golden(folder("in/sample_lens"))
    named = scone_training.by_name(golden, golden.model.params["mot"])
    tensors, _ = read_header(golden.folder / "model.safetensors")
    for name, array in named.items():
        np.testing.assert_array_equal(array, tensors[name].read(), err_msg=name)
    counts = {
        setting: sum(scone_training.is_trained(name, frozen) for name in named)
        for setting, frozen in scone_training.FROZEN.items()
    }
    assert counts == {  # the recording's requires_grad
        "both": 520,
        "und_only": 263,
        "all_frozen": 6,
        "gen_llm_frozen": 267,
        "gen_only": 263,
        "stopgrad_und": 520,
    }


def test_a_gradient_is_the_slope_of_the_loss(folder):
    golden, row = load_golden(folder("(xcheck_)?in/")), "xcheck_in"
    run, target = scone_training.gradient_of(golden, row, None), scone_forward.target_velocity(golden, row)
    given, params = scone_forward.inputs(golden, row), golden.model.params["mot"]
    (_, _), gradient = run(params, given, target)
    kernel, slope = params["llm2vae"]["kernel"], gradient["llm2vae"]["kernel"]
    step = 1e-2 * slope / np.abs(slope).max()

    def loss(kernel):
        changed = params | {"llm2vae": params["llm2vae"] | {"kernel": kernel}}
        return float(run(changed, given, target)[0][0])

    expected = float((slope * step).sum())
    assert (loss(kernel + step) - loss(kernel - step)) / 2 == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("computed", "passes"), [([1, np.nan], True), ([1, 0], False), ([np.nan, 1], False), ([2, np.nan], False)]
)
def test_what_is_recorded_as_no_number_must_be_none(computed, passes):
    result = compare("norms", np.array([1, np.nan]), np.array(computed), limit=2e-5, exact=True)
    assert (result.relative <= result.limit) == passes


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

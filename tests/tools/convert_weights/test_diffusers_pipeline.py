"""A diffusers pipeline in one command: every network, what is there already, and what is no pipeline."""

import dataclasses
import json

import pytest
from safetensors.numpy import save_file

from tests.tiny_model import TINY, random_params
from tests.tools.convert_weights.command import run
from tools.convert_weights import convert
from tools.convert_weights.export import export
from uno_jax.networks.registry import row_of
from uno_jax.weights.checkpoint import read_config, save_network

CONFIGS = (TINY.mmdit, TINY.vae, TINY.t5, TINY.clip)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """The folders of a pipeline, each with its network in the naming that it is exported in."""
    folder = tmp_path_factory.mktemp("pipeline")
    for model, config in zip(convert.MODELS, CONFIGS, strict=True):
        assert model.kind == row_of(config).kind
        save_network(folder / "native" / model.kind, config, random_params(config, 0))
        export(model, folder / "native", folder / model.folder / "model.safetensors")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    return folder


def test_every_network_and_again_only_what_is_missing(pipeline, tmp_path, capsys, monkeypatch):
    def stopped(planned, *rest, write=convert.convert):
        if planned.model.kind == "t5":
            raise OSError("stopped")
        return write(planned, *rest)

    dst, arguments = tmp_path / "model", ("pipeline", "--src", pipeline, "--dst", tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr("tools.convert_weights.pipeline.convert", stopped)
        assert run(*arguments) == 2
    assert sorted(path.name for path in dst.iterdir()) == ["mmdit", "vae"]
    capsys.readouterr()
    assert run(*arguments) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["kept"] * 2 + ["wrote"] * 2
    for model, config in zip(convert.MODELS, CONFIGS, strict=True):
        assert read_config(dst / model.kind, model.kind) == config


@pytest.mark.slow
def test_what_is_none_is_refused_before_anything_is_written(pipeline, tmp_path, capsys):
    def refused(src):
        assert run("pipeline", "--src", src, "--dst", tmp_path / "model") == 2
        assert not (tmp_path / "model").exists()
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        return told

    assert "no source" in refused(tmp_path / "absent")
    part = tmp_path / "part"
    for model in convert.MODELS[:2]:
        (part / model.folder).mkdir(parents=True)
        (part / model.folder / "model.safetensors").symlink_to(pipeline / model.folder / "model.safetensors")
    assert "it lacks text_encoder_2, text_encoder" in refused(part)
    for folder in ("text_encoder", "text_encoder_2"):  # as in a pipeline of another kind
        (part / folder).mkdir()
        table = random_params(TINY.clip, 0)["token_embedding"]
        file = part / folder / "model.safetensors"
        save_file({"text_model.embeddings.token_embedding.weight": table}, file)
    assert "is not a T5 v1.1 encoder: it looks like a CLIP text encoder" in refused(part)


@pytest.mark.slow
def test_another_network_in_its_place_is_not_kept(pipeline, tmp_path, capsys):
    save_network(tmp_path / "vae", dataclasses.replace(TINY.vae, scale=0.5), random_params(TINY.vae, 0))
    assert run("pipeline", "--src", pipeline, "--dst", tmp_path) == 2
    assert "vae holds another FLUX autoencoder" in capsys.readouterr().err

"""Pictures by a pipeline of diffusers and by uno_jax.sample, on tiny models with random weights."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_model import write_model
from tests.tools.language_models.tiny_language import byte_tokenizer
from tools.common.errors import ToolError
from tools.common.manifest import Job, Row
from tools.common.memory import OutOfMemoryError
from tools.synthesize_data.config import DiptychsConfig, GenerateConfig, SynthConfig, TaxonomyConfig
from tools.synthesize_data.pipeline.image_files import load_image
from tools.synthesize_data.pipeline.packaged import in_uno_jax
from tools.synthesize_data.pipeline.uno_sampler import Sampler, Wanted, run_program
from tools.synthesize_data.stages import generate
from tools.synthesize_data.stages.referenced import referenced_panels
from uno_jax.toybox import compose, load_subjects


def job(number: int, width: int = 64, height: int = 32, prompt: str = "two cats") -> Job:
    return Job(f"{number:04x}", {"prompt": prompt, "width": width, "height": height, "seed": number})


def pixels(folder, result) -> np.ndarray:
    return np.asarray(load_image(folder, result["picture"]), np.int16)


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    """A FLUX pipeline a few layers deep, in diffusers' format."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizerFast,
        T5Config,
        T5EncoderModel,
    )

    torch.manual_seed(0)
    heads = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    inner = {"joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": [4, 4, 8]}
    transformer = FluxTransformer2DModel(patch_size=1, in_channels=16, guidance_embeds=True, **heads, **inner)
    blocks = {"block_out_channels": (4, 8), "norm_num_groups": 1, "layers_per_block": 1, "latent_channels": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(**blocks, **kinds, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1)
    small = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=49408, projection_dim=32, **small))
    t5 = T5EncoderModel(T5Config(vocab_size=300, d_model=32, d_ff=37, d_kv=8, num_heads=4, num_layers=1))
    folder = tmp_path_factory.mktemp("flux")
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=clip.eval(),
        tokenizer=CLIPTokenizerFast.from_pretrained(in_uno_jax("tokenizers", "clip")),
        text_encoder_2=t5.eval(),
        tokenizer_2=byte_tokenizer(pad_token="<pad>"),
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def with_diffusers(model, **changes) -> SynthConfig:
    own = GenerateConfig(model=str(model), steps=2, dtype="float32", **changes)
    return SynthConfig(device="cpu", generate=own)


@pytest.mark.slow
def test_a_picture_depends_on_its_prompt_and_seed_and_not_on_its_batch(flux, tmp_path):
    worker = generate.STAGE.worker(with_diffusers(flux), tmp_path)
    jobs = [job(1), job(2, 32, 64), job(3), job(4, prompt="a red dog")]
    results = worker(jobs)
    assert [result["picture"] for result in results] == [f"pictures/generate/00/{j.id}.png" for j in jobs]
    together = [pixels(tmp_path, result) for result in results]
    assert [each.shape for each in together] == [(32, 64, 3), (64, 32, 3), (32, 64, 3), (32, 64, 3)]
    (alone,) = worker([job(3)])
    assert np.abs(pixels(tmp_path, alone) - together[2]).max() <= 1
    assert np.abs(together[0] - together[2]).mean() > 1
    (other_words,) = worker([job(3, prompt="a red dog")])
    assert np.abs(pixels(tmp_path, other_words) - together[2]).max() > 0


def test_a_size_the_pipeline_does_not_make_stops_the_stage(flux, tmp_path):
    worker = generate.STAGE.worker(with_diffusers(flux), tmp_path)
    with pytest.raises(ToolError, match="diptychs.panels"):
        worker([job(1, width=61)])


def test_a_pipeline_that_needs_a_picture_is_refused(flux, tmp_path):
    other = tmp_path / "img2img"
    other.mkdir()
    index = json.loads((flux / "model_index.json").read_text()) | {"_class_name": "FluxImg2ImgPipeline"}
    for path in flux.iterdir():
        if path.is_dir():
            (other / path.name).symlink_to(path)
    (other / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ToolError, match="choose a text-to-image pipeline"):
        generate.STAGE.worker(with_diffusers(other), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "generate.model is empty"),
        ({"model": "/no/such/pipeline"}, "'/no/such/pipeline' cannot be loaded"),
        ({"backend": "uno_jax", "model": ""}, "name a directory, or small"),
    ],
)
def test_settings_that_no_picture_can_come_of_are_refused(changes, message, tmp_path):
    with pytest.raises(ToolError, match=message):
        generate.STAGE.worker(SynthConfig(device="cpu", generate=GenerateConfig(**changes)), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "generate.model is empty"),
        ({"steps": 0}, "generate.steps must be 1 or more"),
        ({"arguments": ("--batch-size", "2")}, "needs generate.backend uno_jax"),
        ({"left": "toybox"}, "generate.left toybox needs generate.backend uno_jax"),
        ({"second": "referenced"}, "generate.second referenced needs generate.backend uno_jax"),
        ({"backend": "uno_jax", "lora": "some"}, "generate.lora some draws referenced panels only"),
        ({"left": "toybox", "backend": "uno_jax"}, "needs square panels side by side.*1024, 768"),
    ],
)
def test_odd_settings_are_told_before_work(changes, message):
    with pytest.raises(ToolError, match=message):
        generate.STAGE.check_settings(SynthConfig(generate=GenerateConfig(**changes)))


def test_a_given_left_panel_takes_the_toy_worlds_subjects():
    diptychs = DiptychsConfig(layouts=("left-right",), panels=((64, 64),))
    own = GenerateConfig(backend="uno_jax", left="toybox")
    generate.STAGE.check_settings(
        SynthConfig(generate=own, diptychs=diptychs, taxonomy=TaxonomyConfig("toybox"))
    )
    with pytest.raises(
        ToolError, match=r"taxonomy.path \(the classes of Objects365\) has \d+ others, such as"
    ):
        generate.STAGE.check_settings(SynthConfig(generate=own, diptychs=diptychs))


def test_an_unknown_device_is_refused(flux, tmp_path):
    config = SynthConfig(device="abacus", generate=GenerateConfig(model=str(flux)))
    with pytest.raises(ToolError, match="device 'abacus' cannot be used"):
        generate.STAGE.worker(config, tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


def with_sampler(model) -> SynthConfig:
    own = GenerateConfig(backend="uno_jax", model=str(model), steps=1, arguments=("--dtype", "float32"))
    return SynthConfig(generate=own)


@pytest.mark.slow
def test_the_own_sampler_makes_them_and_goes_on_where_it_was(model, tmp_path, monkeypatch, capfd):
    worker = generate.STAGE.worker(with_sampler(model), tmp_path)
    jobs = [job(number, 32, 32) for number in (1, 2)]
    made = [pixels(tmp_path, result) for result in worker(jobs)]
    assert [each.shape for each in made] == [(32, 32, 3)] * 2 and (made[0] != made[1]).any()
    assert not list((tmp_path / "work").iterdir())
    assert "picture" in capfd.readouterr().err  # the program's progress bar
    # Killed after the program was done and before its pictures were taken: they are found, not made again.
    monkeypatch.setattr(Sampler, "store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        worker(jobs)
    monkeypatch.undo()
    (kept,) = (tmp_path / "work").iterdir()
    stamps = {path: path.stat().st_mtime_ns for path in kept.glob("*.png")}
    assert len(stamps) == 2
    seen = {}
    store = Sampler.store

    def looked_at(self, made, stage, id):
        seen[made] = made.stat().st_mtime_ns
        return store(self, made, stage, id)

    monkeypatch.setattr(Sampler, "store", looked_at)
    again = worker(jobs)
    assert seen == stamps
    assert all((pixels(tmp_path, a) == b).all() for a, b in zip(again, made, strict=True))


@pytest.mark.slow
def test_the_left_panel_can_be_given(model, tmp_path, monkeypatch):
    wanted = []
    entry = Sampler.entry
    monkeypatch.setattr(Sampler, "entry", lambda self, each: wanted.append(entry(self, each)) or wanted[-1])
    config = with_sampler(model)
    config = dataclasses.replace(config, generate=dataclasses.replace(config.generate, left="toybox"))
    jobs = [job(number, 64, 32) for number in (1, 2)]
    for each, scene in zip(jobs, ("in the snow", "on the grass"), strict=True):
        each.inputs.update(generate.left_panels({"subject": "tomato", "other": None, "scene_1": scene}))
    made = [pixels(tmp_path, result) for result in generate.STAGE.worker(config, tmp_path)(jobs)]
    assert [each.shape for each in made] == [(32, 64, 3)] * 2
    (tomato,) = (subject for subject in load_subjects(split="train") if subject.name == "tomato")
    for each, scene, entry in zip(jobs, ("snow", "grass"), wanted, strict=True):
        drawn = compose(np.random.default_rng(each.inputs["seed"]), [tomato], scene, 32).image
        np.testing.assert_array_equal(np.asarray(Image.open(entry["left_path"])), drawn)
        np.testing.assert_array_equal(made.pop(0)[:, :32], drawn)
    each.inputs["left"]["subjects"] = ["unicorn 9"]
    with pytest.raises(ToolError, match="uno_jax.toybox.draw ended with exit 2: .*no subject 'unicorn 9'"):
        generate.STAGE.worker(config, tmp_path)(jobs)


@pytest.mark.slow
def test_a_second_subject_joins_by_being_in_what_is_given(model, tmp_path):
    """The right panel is that which a left one with both gives; the left one has the first subject alone."""
    config = with_sampler(model)
    config = dataclasses.replace(config, generate=dataclasses.replace(config.generate, left="toybox"))
    jobs = [job(1, 64, 32), job(1, 64, 32)._replace(id="both")]
    asked = {"subject": "tomato", "other": "tiger face", "scene_1": "in the snow"}
    jobs[0].inputs.update(generate.left_panels(asked))
    jobs[1].inputs["left"] = jobs[0].inputs["given"]
    joined, both = [pixels(tmp_path, result) for result in generate.STAGE.worker(config, tmp_path)(jobs)]
    np.testing.assert_array_equal(joined[:, 32:], both[:, 32:])
    (tomato,) = (subject for subject in load_subjects(split="train") if subject.name == "tomato")
    seed = jobs[0].inputs["seed"]
    np.testing.assert_array_equal(
        joined[:, :32], compose(np.random.default_rng(seed), [tomato], "snow", 32).image
    )


def referenced_job(number: int, other: str | None = None, drawn: bool = True) -> Job:
    """A diptych whose second panel has references, and whose first one the toy world or the model draws."""
    asked = {"subject": "tomato", "other": other, "scene_1": "in the snow", "layout": "left-right"}
    row = Row("id", asked, {"caption_1": "a tomato in the snow", "caption_2": "a tomato on the grass"})
    own = GenerateConfig(second="referenced", left="toybox" if drawn else "")
    found = job(number)
    found.inputs.update(referenced_panels(SynthConfig(generate=own), row))
    return found


def test_a_referenced_panel_asks_for_what_is_drawn_alone():
    both = referenced_job(1, "tiger face").inputs
    assert both["prompt"] == "a tomato on the grass"
    assert both["first"] == {"subjects": ["tomato"], "scene": "in the snow"}
    assert both["other"] == {"subjects": ["tiger face"], "scene": "in the snow"}
    told = referenced_job(1, "tiger face", drawn=False).inputs
    assert told["first"] == "a tomato in the snow" and told["other"] == "a tiger face in the snow"
    assert "other" not in referenced_job(1).inputs


@pytest.mark.slow
def test_the_second_panel_can_be_drawn_with_the_first_as_reference(model, tmp_path, monkeypatch):
    wanted = []
    entry = Sampler.entry
    monkeypatch.setattr(Sampler, "entry", lambda self, each: wanted.append(entry(self, each)) or wanted[-1])
    config = with_sampler(model)
    own = dataclasses.replace(config.generate, second="referenced", left="toybox", lora="none")
    config = dataclasses.replace(config, generate=own)
    made = generate.STAGE.worker(config, tmp_path)([referenced_job(1), referenced_job(2, "tiger face")])
    pictures = [pixels(tmp_path, result) for result in made]
    assert [each.shape for each in pictures] == [(32, 64, 3)] * 2
    (tomato,) = (subject for subject in load_subjects(split="train") if subject.name == "tomato")
    for number, (picture, asked) in enumerate(zip(pictures, wanted, strict=True), 1):
        drawn = compose(np.random.default_rng(number), [tomato], "snow", 32).image
        np.testing.assert_array_equal(picture[:, :32], drawn)
        np.testing.assert_array_equal(np.asarray(Image.open(asked["image_paths"][0])), drawn)
        assert (asked["width"], asked["height"], len(asked["image_paths"])) == (32, 32, number)
        assert "left_path" not in asked


@pytest.mark.slow
def test_first_panels_can_be_drawn_from_text(model, tmp_path):
    config = with_sampler(model)
    own = dataclasses.replace(config.generate, second="referenced", lora="none")
    config = dataclasses.replace(config, generate=own)
    (made,) = generate.STAGE.worker(config, tmp_path)([referenced_job(1, drawn=False)])
    picture = pixels(tmp_path, made)
    assert picture.shape == (32, 64, 3) and np.abs(picture[:, :32] - picture[:, 32:]).mean() > 1


@pytest.mark.slow
def test_its_errors_are_told_in_its_words(model, tmp_path):
    with pytest.raises(ToolError, match="exit 2: .*multiples of 16"):
        generate.STAGE.worker(with_sampler(model), tmp_path)([job(1, 33, 32)])
    absent = Sampler(tmp_path, str(tmp_path / "absent"), 1, 1.0)
    with pytest.raises(ToolError, match="no model directory"):
        absent([Wanted("a cat", 32, 32, 0)], "generate", ["00"])


def failing(text: str, end: str) -> list[str]:
    return [sys.executable, "-c", f"import os, sys; sys.stderr.write({text!r}); sys.stderr.flush(); {end}"]


def test_lack_of_memory_and_signals_are_told_apart():
    full = "error: out of device memory (RESOURCE_EXHAUSTED); try smaller batches"
    with pytest.raises(OutOfMemoryError, match="smaller batches"):
        run_program(failing(f"  0%|   |\r{full}\n", "sys.exit(2)"))
    with pytest.raises(ToolError, match="signal 9: 50%"):
        run_program(failing("10%\n50%", "os.kill(os.getpid(), 9)"))
    with pytest.raises(ToolError, match="exit 3: it printed nothing"):
        run_program(failing("", "sys.exit(3)"))
    run_program(failing("all is well", "sys.exit(0)"))

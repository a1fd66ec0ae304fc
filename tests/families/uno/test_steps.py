"""Negative prompts against diffusers' pipeline; steps one by one; guidance of some times; start images."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from tests.families.uno.test_velocity import TINY, alone, draw_normal, tiny_model
from tests.tools.convert_weights.command import run
from tests.tools.convert_weights.test_parity import WIDE, close, randomised
from uno_jax.families.flow import interpolate
from uno_jax.families.latents import pack, unpack
from uno_jax.families.model import Model
from uno_jax.families.uno import sampling
from uno_jax.families.uno.denoising import Contrast, Left, Start, denoise
from uno_jax.families.uno.settings import Settings
from uno_jax.families.uno.types import Conditioning
from uno_jax.weights.checkpoint import restore_network

TIMES = np.array([1.0, 0.7, 0.4, 0.0], np.float32)


def test_a_negative_prompt_equals_diffusers(tmp_path):
    torch.manual_seed(1)
    module = randomised(FluxTransformer2DModel(**WIDE, guidance_embeds=True))
    module.save_pretrained(tmp_path / "transformer")
    assert run("flux", "--src", tmp_path / "transformer", "--dst", tmp_path / "model") == 0
    config, params = restore_network(tmp_path / "model" / "mmdit")
    noise = np.array(draw_normal(0, 1, 8, 12, 16))
    txt, negative_txt, vec, negative_vec = (
        np.array(draw_normal(seed, 1, *shape)) for seed, shape in enumerate([(5, 40)] * 2 + [(24,)] * 2, 1)
    )
    pipeline = FluxPipeline(FlowMatchEulerDiscreteScheduler(), None, None, None, None, None, module)
    pipeline.set_progress_bar_config(disable=True)
    (expected,) = pipeline(
        height=64,
        width=96,
        sigmas=list(TIMES[:-1]),
        guidance_scale=4.0,
        true_cfg_scale=2.5,
        latents=torch.from_numpy(np.array(pack(noise))),
        prompt_embeds=torch.from_numpy(txt),
        pooled_prompt_embeds=torch.from_numpy(vec),
        negative_prompt_embeds=torch.from_numpy(negative_txt),
        negative_pooled_prompt_embeds=torch.from_numpy(negative_vec),
        output_type="latent",
        return_dict=False,
    )
    strength = np.full(1, 4.0, np.float32)
    asked, plain = (Conditioning(*each, (), strength) for each in ((txt, vec), (negative_txt, negative_vec)))
    model = Model(dataclasses.replace(TINY, mmdit=config), {"mmdit": params})
    of = jax.jit(partial(denoise, model, noise, asked, TIMES))
    close(of(Contrast(plain, (2.5,))), expected, 2e-5)
    without = of(Contrast(asked, (2.5,)))
    assert abs(np.asarray(without) - expected.numpy()).max() > 0.01 * expected.abs().max()


@pytest.fixture(scope="module")
def task():
    """(noise, conditioning, contrast) of two pictures' worth of tokens and a contrast to something else."""
    asked = alone()
    plain = asked._replace(txt=-asked.txt, vec=0 * asked.vec)
    return draw_normal(5, 1, 4, 8, 16), asked, Contrast(plain, (2.0,))


@pytest.mark.parametrize("kind", ["start", "left"])
def test_watched_steps_are_the_scans_and_can_be_ended(task, kind):
    model, (noise, asked, contrast) = tiny_model(), task
    start = Start(draw_normal(6, *noise.shape), np.arange(8)[None, None, :, None] >= np.float32(4))
    given = {"start": start, "left": Left(draw_normal(6, 1, 4, 4, 16))}[kind]
    arguments = (noise, asked, TIMES, contrast, given)
    heard = []
    watched = sampling.watched_latent(model, *arguments, watch=heard.append)
    expected = sampling.denoise_latent(model, *arguments)
    np.testing.assert_allclose(watched, expected, atol=1e-5)
    assert [each[1:] for each in heard if each.phase == "drawing"] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert heard[0].phase == "compiling"

    def stop(progress):
        assert progress.phase == "drawing"  # nothing is compiled again
        if progress.step == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sampling.watched_latent(model, *arguments, watch=stop)


@pytest.mark.slow
def test_guidance_acts_in_its_interval_only(task):
    noise, asked, contrast = task
    of = jax.jit(partial(denoise, tiny_model(), noise, asked))
    half = Settings(3, None, true_cfg=2.0, cfg_interval=(0.3, 0.8))
    acts = half.acts_at(TIMES[:-1])
    assert acts.tolist() == [False, True, True] and Settings(3, None).acts_at(TIMES) is None
    found = of(schedule=TIMES, contrast=contrast._replace(acts=acts))
    first = unpack(of(schedule=TIMES[:2]), (2, 4))
    rest = jax.jit(partial(denoise, tiny_model()))(first, asked, TIMES[1:], contrast)
    np.testing.assert_allclose(found, rest, atol=1e-5)


def test_a_start_image_begins_part_way_and_what_a_mask_keeps_comes_back(task):
    noise, asked, _ = task
    latent, times = draw_normal(6, *noise.shape), TIMES[1:]
    of = jax.jit(partial(denoise, tiny_model(), noise, asked, times))
    begun = unpack(interpolate(pack(latent), pack(noise), jnp.full(1, times[0])), (2, 4))
    expected = jax.jit(partial(denoise, tiny_model()))(begun, asked, times)
    # Of values up to 4: the two programs add their float32 in another order.
    np.testing.assert_allclose(of(given=Start(latent)), expected, atol=3e-6)
    redrawn = (np.arange(8) >= 4).astype(np.float32)[None, None, :, None]
    kept, made = np.split(np.asarray(unpack(of(given=Start(latent, redrawn)), (2, 4))), 2, axis=2)
    np.testing.assert_allclose(kept, latent[:, :, :4], atol=1e-6)
    assert abs(made - latent[:, :, 4:]).max() > 0.1


@pytest.mark.parametrize(
    ("steps", "strength", "skipped"), [(25, 0.6, 10), (4, 1.0, 0), (4, 0.1, 3), (1, 0.5, 0)]
)
def test_strength_is_the_share_of_steps(steps, strength, skipped):
    assert Settings(steps, None, strength=strength).skipped == skipped

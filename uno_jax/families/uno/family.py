"""FLUX/UNO as a family (arXiv 2504.02160): a FLUX.1 MM-DiT with reference pictures as extra tokens."""

from uno_jax.families import autoencoder, latents
from uno_jax.families.family import Encoder, Family, LoraMethod, Objective, Sampler, Trainer
from uno_jax.families.uno import (
    calibration,
    conditioning,
    lora,
    lora_names,
    lora_updates,
    objective,
    plan,
    sampling,
    settings,
)
from uno_jax.families.uno.config import PRESETS, LoraConfig, ModelConfig, SamplingDefaults
from uno_jax.support.images import prepare_reference

FAMILY = Family(
    name="uno",
    config=ModelConfig,
    defaults=SamplingDefaults,
    core="mmdit",
    presets=PRESETS,
    sampler=Sampler(
        make_settings=settings.make_settings,
        options=(
            "steps",
            "guidance",
            "unope",
            "true_cfg",
            "image_cfg",
            "cfg_interval",
            "strength",
            "skip_threshold",
        ),
        check_size=settings.check_size,
        reference_side=settings.reference_side,
        prepare_reference=prepare_reference,
        sample=sampling.sample,
        plan=plan.plan_sampling,
        least_bytes=plan.least_bytes,
        prompt_cut=conditioning.prompt_cut,
        takes=("left", "negative", "start", "mask"),
        in_stages=True,
        check_pictures=settings.check_pictures,
        step_ratios=calibration.step_ratios,
    ),
    trainer=Trainer(
        objectives={
            "flow": Objective(("mmdit", "vae", "t5", "clip"), objective.make_loss),
            "autoencoder": Objective(("vae",), autoencoder.make_loss),
        },
        encoders={
            "vae": Encoder(latents.encode_vae, least_bytes=plan.picture_bytes),
            "t5": Encoder(conditioning.encode_t5, text="txt", least_bytes=plan.text_bytes),
            "clip": Encoder(conditioning.encode_clip, text="vec"),
        },
        tokenize=conditioning.tokenize,
        make_batch=conditioning.make_batch,
        abstract_batch=plan.abstract_batch,
    ),
    lora=LoraMethod(
        info=lora.LoraInfo,
        config=LoraConfig,
        abstract=lora.abstract_lora,
        init=lora.init_lora,
        to_tensors=lora_names.to_tensors,
        from_tensors=lora_names.from_tensors,
        read_updates=lora_updates.read_updates,
        is_own=lora_updates.is_own,
    ),
)

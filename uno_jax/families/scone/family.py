"""Scone as a family (arXiv 2512.12675): a decoder of two experts reads references and draws."""

import math
from pathlib import Path

from uno_jax.families.family import Family, Sampler
from uno_jax.families.scone import plan, sampling, settings, writing
from uno_jax.families.scone.config import PRESETS, SconeConfig, SconeDefaults
from uno_jax.tokenizers.qwen import QwenTokenizer, read_tokenizer

TOKENIZER = "tokenizer"


def tokenizer_of(directory: Path, config: SconeConfig) -> QwenTokenizer:
    """The tokenizer in a model's directory.

    Raises CheckpointError.
    """
    return read_tokenizer(directory / TOKENIZER, config.mot)


FAMILY = Family(
    name="scone",
    config=SconeConfig,
    defaults=SconeDefaults,
    core="mot",
    presets=PRESETS,
    sampler=Sampler(
        make_settings=settings.make_settings,
        options=settings.OPTIONS,
        check_size=settings.check_size,
        reference_side=settings.reference_side,
        prepare_reference=settings.prepare_reference,
        sample=sampling.sample,
        plan=plan.plan_sampling,
        least_bytes=plan.least_bytes,
        takes=("turns",),
        batch_shape=settings.batch_shape,
        check_turns=settings.check_turns,
        tensor_shares=lambda config: math.gcd(config.mot.num_heads, config.mot.num_kv_heads),
        answer=writing.answer,
        options_of=settings.options_of,
    ),
    beside=(TOKENIZER,),
    read_tokenizer=tokenizer_of,
)

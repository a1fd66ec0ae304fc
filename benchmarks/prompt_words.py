"""Which words of a prompt a small model reads: how much its loss rises where one thing that the prompt says
is exchanged for another that is not in the picture.

    python -m benchmarks.prompt_words                           # the shipped model with its references
    python -m benchmarks.prompt_words --model runs/small/model --count 120

A rise of 0 within its error, at every time, means that the model does not read it. At time 1 the picture is
noise alone; the more of it can be seen, the less do words count.
"""

import argparse
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from benchmarks.measure import table
from uno_jax.evaluation.toybox.cases import Kind, left_to_right, make_cases
from uno_jax.families.flow import interpolate
from uno_jax.families.latents import pack, token_grid
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode, tokenize
from uno_jax.families.uno.config import UnoPE
from uno_jax.families.uno.types import Batch, Conditioning
from uno_jax.families.uno.velocity import variables, velocity
from uno_jax.networks.mmdit import MMDiT
from uno_jax.small_training.samples import as_floats
from uno_jax.support.command_line import exit_on
from uno_jax.toybox import Sample, load_subjects
from uno_jax.toybox.captions import noun
from uno_jax.toybox.scenes import SCENES
from uno_jax.weights.load import load_model

TIMES = (1.0, 0.9, 0.8, 0.6)
SEED = 0
BATCH = 10
Exchange = Callable[[Sample, Sample], str]


def exchange_scene(case: Sample, other: Sample) -> str:
    """The prompt with the other picture's scene."""
    named = max((each for each in SCENES[case.scenes[0]].phrases if each in case.prompt), key=len)
    return case.prompt.replace(named, SCENES[other.scenes[0]].phrases[0])


def exchange_subject(case: Sample, other: Sample) -> str:
    """The prompt with the other picture's subject."""
    return case.prompt.replace(noun(case.subjects[0]), noun(other.subjects[0]))


def exchange_sides(case: Sample, _: Sample) -> str:
    """The prompt with left for right and right for left."""
    return case.prompt.replace(" left", " \0").replace(" right", " left").replace("\0", "right")


WORDS: dict[str, tuple[Kind, Exchange]] = {
    "the scene": ("single", exchange_scene),
    "the subject's name": ("single", exchange_subject),
    "the side of one subject": ("placed", exchange_sides),
    "the sides of two": ("two", exchange_sides),
}


@jax.jit
def errors(
    model: Model,
    latent: Float[Array, "b h w z"],
    noise: Float[Array, "b h w z"],
    time: float,
    given: Conditioning,
) -> Float[Array, " b"]:
    """The squared error of each sample's velocity."""
    net, t = MMDiT(model.config.mmdit), jnp.full(len(latent), time)
    x1, x0 = pack(latent), pack(noise)
    v = velocity(net, variables(model.params), interpolate(x1, x0, t), token_grid(latent), t, given)
    return jnp.square(v - (x0 - x1)).mean((1, 2))


def losses(model: Model, cases: Sequence[Sample], prompts: Sequence[str]) -> Float[np.ndarray, "times n"]:
    """The error of each case under these prompts at every time, from noise that depends on SEED alone."""
    found = []
    for start in range(0, len(cases), BATCH):
        part, tokens = cases[start : start + BATCH], tokenize(model.config, prompts[start : start + BATCH])
        columns = zip(*((case.target, *case.references) for case in part), strict=True)
        target, *refs = (as_floats(jnp.asarray(np.stack(each))) for each in columns)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(SEED), start))
        batch = Batch(target, tuple(refs), tokens["t5"], tokens["clip"])
        latent, given = encode(model, batch, keys[0], model.unope or UnoPE())
        noise = jax.random.normal(keys[1], latent.shape)
        found.append(np.stack([errors(model, latent, noise, time, given) for time in TIMES]))
    return np.concatenate(found, axis=1)


def rises(model: Model, cases: Sequence[Sample], exchange: Exchange) -> list[str]:
    """By time, how much more loss the exchanged prompts have, with its standard error, in thousandths."""
    right = [case.prompt for case in cases]
    wrong = [exchange(case, unlike(case, cases)) for case in cases]
    more = 1000 * (losses(model, cases, wrong) - losses(model, cases, right))
    deviations = more.std(axis=1) / len(cases) ** 0.5
    return [f"{mean:.2f} ± {error:.2f}" for mean, error in zip(more.mean(axis=1), deviations, strict=True)]


def unlike(case: Sample, cases: Sequence[Sample]) -> Sample:
    """The first case with another subject in another scene."""
    return next(each for each in cases if each.subjects != case.subjects and each.scenes != case.scenes)


def choose_cases(kind: Kind, count: int, size: int) -> list[Sample]:
    """Held-out subjects; of two subjects only pictures whose prompts name sides."""
    cases = make_cases(load_subjects(split="val"), 4 * count, size, SEED, [kind])[kind]
    return [case for case in cases if kind != "two" or left_to_right(case)][:count]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="small")
    parser.add_argument("--count", type=int, default=60)
    args = parser.parse_args()
    if args.count < 10:
        parser.error("--count must be at least 10: a prompt takes its words from another picture's")
    with exit_on(ValueError, OSError):
        model = load_model(args.model, dtype="float32")
    size = model.config.defaults.resolution
    rows = [
        (what, *rises(model, choose_cases(kind, args.count, size), exchange))
        for what, (kind, exchange) in WORDS.items()
    ]
    print(table(["exchanged; rise of the loss in thousandths at", *map(str, TIMES)], rows))


if __name__ == "__main__":
    main()

"""How well the model copies held-out subjects, from pictures drawn and scored while it trains.

The measure is the suite toybox's: whether the right one of 20 subjects is recognised, and the scene.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from PIL import Image
from tqdm import tqdm

from uno_jax.evaluation.toybox.cases import Cases, make_cases
from uno_jax.evaluation.toybox.draw import case_requests, draw_cases
from uno_jax.evaluation.toybox.scorer import Pictures, load_scorer
from uno_jax.evaluation.toybox.scores import Judge, judge_pictures, make_judge, summarise_verdicts
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode, tokenize
from uno_jax.families.uno.config import ModelConfig, UnoPE
from uno_jax.families.uno.objective import Noised, flow_loss
from uno_jax.families.uno.settings import make_settings
from uno_jax.families.uno.types import Batch
from uno_jax.families.uno.velocity import variables
from uno_jax.networks.mmdit import MMDiT
from uno_jax.small_training.parts import Job
from uno_jax.small_training.samples import as_floats
from uno_jax.support.trees import Params
from uno_jax.toybox import Sample, load_subjects

STEPS = 16
SHOWN = 12  # cases on a sheet


@dataclass
class Watch:
    """Draws and scores in a thread of its own, so that the training goes on."""

    model: ModelConfig
    dtype: str
    folder: Path
    judge: Judge
    cases: Cases
    log: TextIO
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    running: Future[None] | None = None

    def submit(self, where: Mapping[str, Any], params: Mapping[str, Params], last: bool = False) -> None:
        """Measures a copy of these parameters; `where` says how far the training is. While another one runs,
        it is left out, or waits where it is the `last` of its part.
        """
        if self.running is not None and not self.running.done() and not last:
            return
        self.wait()
        kept: dict[str, Params] = jax.tree.map(jnp.copy, dict(params))
        self.running = self.pool.submit(self._measure, dict(where), kept)

    def wait(self) -> None:
        """Waits for what runs. One that failed is reported and stops no training."""
        if self.running is not None and (error := self.running.exception()) is not None:
            tqdm.write(f"not measured: {error}")
        self.running = None

    def _measure(self, where: dict[str, Any], params: dict[str, Params]) -> None:
        model = Model(self.model, params, UnoPE(), self.dtype)
        kinds: Cases = self.cases if "lora" in params else {"single": self.cases["single"]}
        row: dict[str, Any] = {**where, "gain": reference_gain(model, self.cases["single"])}
        for kind, cases in kinds.items():
            settings = make_settings(self.model, STEPS)
            pictures = draw_cases(model, case_requests(model.config, cases, 0), settings, len(cases))
            verdicts = judge_pictures(self.judge, cases, pictures, kind)
            row[kind] = summarise_verdicts(verdicts)
            name = f"{where['part']}_{where['steps']}_{kind}.png"
            sheet(cases[:SHOWN], pictures[:SHOWN]).save(self.folder / name)
        tqdm.write(json.dumps(row))
        self.log.write(json.dumps(row) + "\n")
        self.log.flush()


def reference_gain(model: Model, cases: Sequence[Sample]) -> float:
    """How much lower the flow loss is with the right references than with those of the next case."""
    target = as_floats(jnp.asarray(np.stack([case.target for case in cases])))
    ref = as_floats(jnp.asarray(np.stack([case.references[0] for case in cases])))
    tokens = tokenize(model.config, [case.prompt for case in cases])
    right, wrong = (
        _loss(model, Batch(target, (shown,), tokens["t5"], tokens["clip"]), jax.random.key(0))
        for shown in (ref, jnp.roll(ref, 1, axis=0))
    )
    return float(wrong - right)


@jax.jit
def _loss(model: Model, batch: Batch, key: PRNGKeyArray) -> Array:
    encode_key, noise_key = jax.random.split(key)
    latent, conditioning = encode(model, batch, encode_key)
    t = jnp.linspace(0.3, 0.95, len(latent))
    noised = Noised(latent, jax.random.normal(noise_key, latent.shape), t)
    net = MMDiT(model.config.mmdit, model.compute_dtype)
    return flow_loss(net, variables(model.params), noised, conditioning)


def open_watch(job: Job, scorer: Path, count: int, log: TextIO) -> Watch:
    """A watch over `count` cases of each kind, for a run of such jobs."""
    subjects, size = load_subjects(split="val"), job.model.defaults.resolution
    judge = make_judge(load_scorer(scorer), subjects, size, 0)
    return Watch(job.model, job.recipe.dtype, job.folder, judge, make_cases(subjects, count, size, 0), log)


def sheet(cases: Any, pictures: Pictures) -> Image.Image:
    """Each case in a row: its references, the picture drawn, the one described."""
    rows = []
    for case, picture in zip(cases, pictures, strict=True):
        rows.append(np.concatenate([*case.references, np.asarray(picture), case.target], axis=1))
    half = len(rows) // 2
    return Image.fromarray(np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1))

"""Contexts that grow call by call, as the reference's do, and what is drawn and written from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from uno_jax.families.flow import euler_step
from uno_jax.families.model import Model
from uno_jax.families.scone.cache import (
    Context,
    Part,
    empty_context,
    extend,
    pad_part,
    padded_split,
    part_inputs,
    real_tokens,
)
from uno_jax.families.scone.drawing import Contexts, Drawing, denoise, velocities
from uno_jax.families.scone.guidance import Guidance, guided, schedule, segments
from uno_jax.families.scone.writing import next_tokens
from uno_jax.networks.mot import Hidden, MoT, MoTInputs, grid_places
from uno_jax.networks.splits import CachedKeys, Layout, Seen, Split, joined

from .scone_folder import Golden, recorded_order

BRANCHES = ("cond", "text", "image")
RECORDED = {"cond": "cond", "text": "cfg_text", "image": "cfg_img"}
"""Our names of the branches, and the recorded ones."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of the decoder: its split, what was cached before, its first rope position, and what its
    tokens are computed from.
    """

    model: Model
    split: Split
    cached: int
    position: int
    context: Context
    part: Part
    und: jax.Array
    """The understanding stream as the code that sampling runs gives it."""

    @property
    def given(self) -> np.ndarray:
        """What entered the first layer, in the reference's order."""
        return self._row(self._streams[0])

    @property
    def output(self) -> np.ndarray:
        """The normed hidden states, in the reference's order."""
        return self._row((self.und, self._streams[1].gen))

    @cached_property
    def _streams(self) -> tuple[tuple[jax.Array, jax.Array], Hidden]:
        return _both_streams(self.model, self.context, self._padded, self.part)

    @property
    def _padded(self) -> Split:
        return padded_split(self.split.kind, self.split.tokens)

    def _row(self, pair: tuple[jax.Array, jax.Array]) -> np.ndarray:
        real = np.asarray(real_tokens(self._padded, jnp.asarray(self.part.counts)))[0]
        return np.asarray(joined(*pair, (self._padded,)))[0][real][recorded_order((self.split,))]

    @property
    def kind(self) -> str:
        return {"vae": "gen", "vit": "und", "text": "und_causal"}[self.split.kind]

    @property
    def last_position(self) -> int:
        return self.position + (self.split.tokens - 1 if self.split.kind == "text" else 0)


class Branch(NamedTuple):
    """What a branch of a drawing sees of a context."""

    keys: CachedKeys
    seen: jax.Array
    position: jax.Array

    @property
    def cached(self) -> int:
        """The number of tokens that it sees."""
        return int(self.seen.sum())


def branch_of(context: Context) -> Branch:
    return Branch(context.keys, context.seen, context.position)


def grown(golden: Golden, context: Context, split: Split, values: np.ndarray) -> tuple[Context, Call]:
    """The context with one more text (ids) or image (its tokens), as sampling pads it."""
    model, padded = golden.model, padded_split(split.kind, split.tokens)
    places = None if split.kind == "text" else grid_places(split.rows, split.columns)
    part = pad_part(np.asarray(values)[None], padded.columns, places)
    before = copied(context)
    context, und = extend(model, context, padded, part)
    return context, Call(model, split, int(before.seen.sum()), int(before.position[0]), before, part, und)


def copied(context: Context) -> Context:
    """A context with keys of its own, since `extend` uses up those that it is given."""
    own: Context = context.replace(keys=jax.tree.map(jnp.copy, context.keys))  # type: ignore[attr-defined]
    return own


@partial(jax.jit, static_argnames="split")
def _both_streams(
    model: Model, context: Context, split: Split, part: Part
) -> tuple[tuple[jax.Array, jax.Array], Hidden]:
    net, variables = MoT(model.config.mot), {"params": model.params["mot"]}
    steps = jnp.arange(split.length) if split.kind == "text" else 0
    positions = jnp.broadcast_to(context.position[:, None] + steps, (1, split.length))
    inputs = part_inputs(split, part, positions)
    given = net.apply(variables, inputs, (split,), method="embed")
    own = real_tokens(split, jnp.asarray(part.counts))
    hidden = net.apply(
        variables, inputs, Layout((split,), reads=(0,)), Seen((context.seen,), own), (context.keys,)
    )
    return cast(Any, given), cast(Hidden, hidden)


class Written(NamedTuple):
    """A text written greedily: the ids that were read, bos first, and the logits of what follows each."""

    ids: list[int]
    logits: np.ndarray


def written(golden: Golden, context: Context, count: int) -> Written:
    """`count` steps of writing after a context, which stays: by the loop that the command runs, with the
    logits of its tokens read at once.
    """
    model, split = golden.model, padded_split("text", count)
    found, _, _ = next_tokens(model, context, np.zeros(1, np.uint32), 0.0, count, split.columns)
    ids = [model.config.mot.bos_id, *np.asarray(found)[0, : count - 1].tolist()]
    part = pad_part(np.array([ids], np.int32), split.columns)
    _, und = extend(model, copied(context), split, part)
    return Written(ids, np.asarray(_logits(model, und[:, :count]))[0])


@jax.jit
def _logits(model: Model, und: jax.Array) -> jax.Array:
    net, variables = MoT(model.config.mot), {"params": model.params["mot"]}
    return cast(jax.Array, net.apply(variables, und, method="logits"))


class Drawn(NamedTuple):
    """A drawing: the time, the state and the guided velocity of each step, those of every branch by step, the
    numbers of branches computed, and the last state.
    """

    times: np.ndarray
    states: np.ndarray
    guided: np.ndarray
    branches: list[dict[str, np.ndarray]]
    counts: list[int]
    last: np.ndarray


def drawn(
    golden: Golden, branches: dict[str, Branch], target: Split, noise: np.ndarray, options: dict[str, Any]
) -> Drawn:
    """A drawing with the options of one of the reference's calls: step by step, and at once by `denoise`."""
    guidance, asked = guidance_of(options), guidance_of(options, as_asked=True)
    times = schedule(options["num_timesteps"], options["timestep_shift"])
    contexts, reads = gathered(branches, guidance.branches)
    drawing = Drawing(target, guidance, reads, segments(times, guidance))
    last = denoise(golden.model, noise[None], contexts, times, drawing)
    every, all_reads = gathered(branches, BRANCHES)
    plain = Drawing(target, Guidance(), all_reads, ())
    states, velocity, parts, counts = [jnp.asarray(noise)[None]], [], [], []
    for now, then in zip(times[:-1], times[1:], strict=True):
        names = guidance.branches if guidance.acts_at(float(now)) else ("cond",)
        found = _velocities(golden.model, states[-1], float(now), every, plain)
        velocity.append(guided({name: found[name] for name in names}, guidance))
        states.append(euler_step(states[-1], velocity[-1], float(now), float(then)))
        parts.append({name: np.asarray(found[name])[0] for name in names})
        counts.append(len(asked.branches) if asked.acts_at(float(now)) else 1)
    return Drawn(
        times[:-1],
        np.concatenate(states[:-1]),
        np.concatenate(velocity),
        parts,
        counts,
        np.asarray(last)[0],
    )


_velocities = jax.jit(partial(velocities, branches=BRANCHES))


def guidance_of(options: dict[str, Any], as_asked: bool = False) -> Guidance:
    """The reference gives up all guidance where there is none by text."""
    text, image = options["cfg_text_scale"], options["cfg_img_scale"]
    image = image if text > 1 or as_asked else 1.0
    interval = tuple(options["cfg_interval"])
    return Guidance(text, image, options["cfg_renorm_type"], options["cfg_renorm_min"], interval)


def gathered(branches: dict[str, Branch], names: Sequence[str]) -> tuple[Contexts, tuple[int, ...]]:
    """The contexts of some branches, and which cache each reads; the branch without text reads cond's."""
    used = [branches[name] for name in names]
    keys = [branches["cond"].keys, *([branches["image"].keys] if "image" in names else [])]
    reads = tuple(int(name == "image") for name in names)
    seen, positions = tuple(each.seen for each in used), tuple(each.position for each in used)
    return Contexts(tuple(keys), seen, positions), reads


@partial(jax.jit, static_argnames="target")
def target_states(
    model: Model, branch: Branch, target: Split, x: jax.Array, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Both streams of a target's normed hidden states."""
    net, variables = MoT(model.config.mot), {"params": model.params["mot"]}
    positions = jnp.broadcast_to(branch.position[:, None], (1, target.length))
    inputs = MoTInputs((), (), (x,), t.reshape(1, 1), positions)
    layout, seen = Layout((target,), reads=(0,)), Seen((branch.seen,))
    und, gen, _ = cast(Hidden, net.apply(variables, inputs, layout, seen, (branch.keys,)))
    return und, gen


class Story:
    """The contexts of one conversation: the whole one, without the last text, and the texts alone; and the
    calls that made them, in order.
    """

    def __init__(self, golden: Golden, slots: int) -> None:
        self.golden = golden
        self.cond, self.image = (empty_context(golden.model, 1, slots) for _ in "ci")
        self.before = (self.cond.seen, self.cond.position)
        self.calls: list[Call] = []

    def show(self, latent: np.ndarray | None, cells: np.ndarray, grids: Sequence[tuple[int, int]]) -> None:
        """A reference: tokens of its latent, if it is seen to be drawn, and its ViT cells."""
        if latent is not None:
            self.cond, call = grown(self.golden, self.cond, Split("vae", *grids[0]), latent)
            self.calls.append(call)
        self.cond, call = grown(self.golden, self.cond, Split("vit", *grids[1]), cells)
        self.calls.append(call)
        self.before = (self.cond.seen, self.cond.position)

    def tell(self, ids: Sequence[int], alone: bool = True) -> None:
        """A text, to the context of texts too unless it is a thought, which also takes nothing away."""
        c = self.golden.model.config.mot
        text = np.array([c.bos_id, *ids, c.eos_id], np.int32)
        self.before = (self.cond.seen, self.cond.position) if alone else self.before
        self.cond, call = grown(self.golden, self.cond, Split("text", 1, len(text)), text)
        self.calls.append(call)
        if alone:
            self.image, call = grown(self.golden, self.image, Split("text", 1, len(text)), text)
            self.calls.append(call)

    @property
    def branches(self) -> dict[str, Branch]:
        return {
            "cond": branch_of(self.cond),
            "text": Branch(self.cond.keys, *self.before),
            "image": branch_of(self.image),
        }

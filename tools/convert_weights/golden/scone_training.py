"""Gradients of the loss under each freezing, and AdamW steps, by the reference's names of parameters."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from uno_jax.families.scone.bridge import Bridge, similarity
from uno_jax.networks.mot import MoT, MoTInputs
from uno_jax.networks.splits import Layout, joined
from uno_jax.support.trees import Params

from ..export import in_torchs_order
from ..mapping import Entry, expand
from ..tables import mot
from .scone_folder import WHOLE_ROW, Golden, Sample, recorded_order
from .scone_forward import drawn_tokens, inputs, target_velocity, threshold_of
from .scone_packing import packed
from .scone_samples import MIXTURE
from .scone_texts import TEXT_WEIGHT

Named = dict[str, np.ndarray]
UND = r"language_model\.model\.(?!embed_tokens)(?!.*moe_gen).*"
GEN = r"language_model\.model\..*moe_gen.*"
TO_UND, TO_GEN = r"connector\..*", r"(vae2llm|llm2vae)\..*"
FROZEN = {
    "both": (),
    "und_only": (GEN, TO_GEN),
    "all_frozen": (UND, GEN, TO_UND, TO_GEN),
    "gen_llm_frozen": (GEN,),
    "gen_only": (UND, TO_UND),
    "stopgrad_und": (),
}
STAGES = {"stage1": (), "stage2_step1": (GEN, TO_GEN), "stage2_step2": ()}
STEPS = "opt"
LM_HEAD = "language_model.lm_head.weight"


class Trained(NamedTuple):
    """Of a stage's steps: losses, norms before clipping, similarities, and the parameters after them."""

    losses: np.ndarray
    norms: np.ndarray
    similarity: np.ndarray
    after: Named


def predicted(
    golden: Golden, params: Params, sample: Sample, given: MoTInputs, threshold: float | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A sample's velocity, and in the reference's order its last hidden states and similarities."""
    splits, c = sample.splits, golden.model.config.mot
    net, order = MoT(c), recorded_order(splits)
    layout = Layout(splits, bridge=None if threshold is None else Bridge(splits, threshold))
    hidden, captured = net.apply(
        {"params": params},
        given,
        layout,
        capture_intermediates=lambda module, method: module.name == "blocks" and method == "__call__",
        mutable=["intermediates"],
    )
    (und, _, _), _ = captured["intermediates"]["blocks"]["__call__"][0]  # type: ignore[index]
    drawn = hidden.gen[:, drawn_tokens(splits)]
    velocity = net.apply({"params": params}, drawn, method="velocity")
    alike = similarity(jax.lax.stop_gradient(und[c.bridge_layer]), splits)
    last = joined(hidden.und, hidden.gen, splits)
    return velocity[0], last[0][order], alike[0][order]  # type: ignore[index]


def text_loss(golden: Golden, params: Params, last: jax.Array) -> jax.Array:
    """The mean cross-entropy of the mixture's labels."""
    states = last[packed(golden, MIXTURE, "ce_loss_indexes")]
    logits = MoT(golden.model.config.mot).apply({"params": params}, states[None], method="logits")
    labels = jnp.asarray(packed(golden, MIXTURE, "packed_label_ids"))
    return optax.softmax_cross_entropy_with_integer_labels(logits[0], labels).mean()  # type: ignore[index]


def detached(context: str) -> AbstractContextManager[Any]:
    """Queries, keys and values of the understanding stream without gradients, where `context` asks for it."""

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, about: nn.module.InterceptorContext
    ) -> Any:
        found = call(*args, **kwargs)
        own = (about.module.name, about.method_name) == ("und", "heads")
        return jax.lax.stop_gradient(found) if own else found

    return nn.intercept_methods(intercept) if context == "stopgrad_und" else nullcontext()


def gradient_of(golden: Golden, row: str, threshold: float | None, context: str = "") -> Any:
    """The compiled function from parameters, the samples' inputs and their targets to ((loss, similarities),
    gradient).
    """
    key = ("gradient", row, threshold, context)
    samples = golden.samples(row)

    def loss(params: Params, given: Sequence[MoTInputs], target: jax.Array) -> Any:
        with detached(context):
            parts = [
                predicted(golden, params, sample, each, threshold)
                for sample, each in zip(samples, given, strict=True)
            ]
        velocity, last, alike = (jnp.concatenate(each) for each in zip(*parts, strict=True))
        found = ((velocity - target) ** 2).mean()
        if row == MIXTURE:
            found += TEXT_WEIGHT * text_loss(golden, params, last)
        return found, alike

    return golden.made.setdefault(key, jax.jit(jax.value_and_grad(loss, has_aux=True)))


def stored_gradient(golden: Golden, row: str, threshold: float | None, context: str = "") -> Named:
    """That of the stored weights."""
    key = ("named", row, threshold, context)
    if key not in golden.made:
        run = gradient_of(golden, row, threshold, context)
        target = jnp.asarray(target_velocity(golden, row))
        _, found = run(golden.model.params["mot"], inputs(golden, row), target)
        golden.made[key] = by_name(golden, found)
    named: Named = golden.made[key]
    return named


def by_name(golden: Golden, tree: Params) -> Named:
    """Our parameters, or their gradients, as the reference's tensors."""
    flat, found = flatten_dict(tree), {}
    for entry in entries(golden):
        part = flat[entry.target] if entry.layer is None else flat[entry.target][entry.layer]
        found[entry.source] = in_torchs_order(entry, np.asarray(part))
    return found


def entries(golden: Golden) -> list[Entry]:
    """Of the decoder's parameters; each is a whole tensor of the reference's."""
    return expand(mot.MODEL, golden.model.config.mot, mot.BAGEL)


def is_trained(name: str, frozen: Sequence[str]) -> bool:
    return not any(re.fullmatch(pattern, name) for pattern in frozen)


def gradients(golden: Golden, setting: str, bridge: str) -> Named:
    """Those of the parameters that a setting trains; the head for texts has none from pictures."""
    context = setting if setting == "stopgrad_und" else ""
    named = stored_gradient(golden, WHOLE_ROW, threshold_of(golden, bridge), context)
    return {
        name: each for name, each in named.items() if name != LM_HEAD and is_trained(name, FROZEN[setting])
    }


def norms(golden: Golden, setting: str, bridge: str) -> np.ndarray:
    return norms_by_name(golden, gradients(golden, setting, bridge))


def norms_by_name(golden: Golden, found: Named) -> np.ndarray:
    """NaN for a parameter that is not among them."""
    names = golden.arrays["grad_meta/param_names"]
    return np.array([norm_of([found[name]]) if name in found else np.nan for name in names])


def norm_of(arrays: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(each, dtype=np.float64).sum() for each in arrays)))


def requires_grad(golden: Golden, setting: str, bridge: str) -> np.ndarray:
    """The ViT and the tables of positions are never trained."""
    ours = {entry.source for entry in entries(golden)}
    names = golden.arrays["grad_meta/param_names"]
    return np.array([name in ours and is_trained(name, FROZEN[setting]) for name in names])


def gradient(golden: Golden, setting: str, bridge: str, name: str) -> np.ndarray:
    return gradients(golden, setting, bridge)[name]


def total_norm(golden: Golden, setting: str, bridge: str) -> float:
    return norm_of(list(gradients(golden, setting, bridge).values()))


def mixture_gradient(golden: Golden, name: str) -> np.ndarray:
    return stored_gradient(golden, MIXTURE, None)[name]


def mixture_norms(golden: Golden) -> np.ndarray:
    return norms_by_name(golden, stored_gradient(golden, MIXTURE, None))


def trained(golden: Golden, stage: str) -> Trained:
    """AdamW without decay (betas 0.9, 0.95, eps 1e-15), on gradients clipped to a norm of 1, at the recorded
    rates.
    """
    if stage in golden.made:
        found: Trained = golden.made[stage]
        return found
    threshold = golden.arrays.get(f"{STEPS}/{stage}/threshold")
    run = gradient_of(golden, STEPS, None if threshold is None else float(threshold))
    params = golden.model.params["mot"]
    kept = {entry.target: is_trained(entry.source, STAGES[stage]) for entry in entries(golden)}
    trains = unflatten_dict(kept)
    adam = optax.scale_by_adam(b1=0.9, b2=0.95, eps=1e-15)
    state, told = adam.init(params), []
    for step, rate in enumerate(golden.arrays[f"{STEPS}/{stage}/lr"]):
        target = jnp.asarray(target_velocity(golden, STEPS, step))
        (loss, alike), gradient = run(params, inputs(golden, STEPS, step), target)
        gradient = jax.tree.map(lambda x, keep: x * keep, gradient, trains)
        norm = norm_of(jax.tree.leaves(gradient))
        clipped = optax.tree.scale(min(1.0, 1 / (norm + 1e-6)), gradient)
        updates, state = adam.update(clipped, state)
        params = optax.apply_updates(params, optax.tree.scale(-rate, updates))
        told.append((loss, norm, alike))
    losses, totals, similarities = (np.array(each) for each in zip(*told, strict=True))
    return golden.made.setdefault(stage, Trained(losses, totals, similarities, by_name(golden, params)))


def of_steps(golden: Golden, stage: str, what: str) -> np.ndarray:
    field = {"loss": "losses", "total_norm": "norms", "semantic_similarity": "similarity"}[what]
    return np.asarray(getattr(trained(golden, stage), field))


def change_norms(golden: Golden, stage: str) -> np.ndarray:
    """0 for a parameter that is not trained."""
    before, after = by_name(golden, golden.model.params["mot"]), trained(golden, stage).after
    changes = {name: after[name] - before[name] for name in after}
    return np.nan_to_num(norms_by_name(golden, changes), nan=0.0)


def after_steps(golden: Golden, stage: str, name: str) -> np.ndarray:
    return trained(golden, stage).after[name]


_GRADIENT, _STAGE = rf"grad/({'|'.join(FROZEN)})/(nomask|mask)", rf"{STEPS}/({'|'.join(STAGES)})"
OUTPUTS: dict[str, Callable[..., Any]] = {
    rf"{_GRADIENT}/norms": norms,
    rf"{_GRADIENT}/requires_grad": requires_grad,
    rf"{_GRADIENT}/total_norm": total_norm,
    rf"{_GRADIENT}/(.*\.(?:weight|bias))": gradient,
    r"mix/grad_norms_ce025": mixture_norms,
    r"mix/grad_ce025/(.*)": mixture_gradient,
    rf"{_STAGE}/(loss|total_norm|semantic_similarity)": of_steps,
    rf"{_STAGE}/change_norms": change_norms,
    rf"{_STAGE}/after/(.*)": after_steps,
}

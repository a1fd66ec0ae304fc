"""Drawings of one sample's target: every call that fills the contexts, and all variants of guidance."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from uno_jax.families.scone.cache import padded_split
from uno_jax.networks.mot import grid_places
from uno_jax.networks.splits import Split, joined

from .scone_contexts import RECORDED, Branch, Call, Drawn, Story, drawn, target_states, written
from .scone_folder import Golden, recorded_order
from .scone_forward import inputs, latents, sample_states, through

Reference = tuple[np.ndarray, np.ndarray, tuple[tuple[int, int], tuple[int, int]]]


def references(golden: Golden) -> list[Reference]:
    """Of each reference the tokens of its latent, its ViT cells, and both grids."""
    found: list[Reference] = []
    side = golden.model.config.mot.latent_patch
    while f"inf/ref_latent_{len(found)}" in golden.arrays:
        latent = golden.arrays[f"inf/ref_latent_{len(found)}"][0]
        picture = golden.arrays[f"inf/vit_image_{len(found)}"].transpose(1, 2, 0)
        grid = latent.shape[1] // side, latent.shape[2] // side
        seen = picture.shape[0] // golden.model.config.vit.patch_size
        cells = np.asarray(golden.cells(picture))
        found.append((golden.tokens(latent, *grid), cells, (grid, (seen, len(cells) // seen))))
    return found


def target_of(golden: Golden) -> Split:
    """The target's grid, from its size in pixels."""
    token = golden.record["vae_config"]["downsample"] * golden.model.config.mot.latent_patch
    height, width = (int(side) // token for side in golden.arrays["inf/image_shape"])
    return Split("target", height, width)


def slots_of(golden: Golden, *texts: int) -> int:
    """Slots for all references twice and for texts of these lengths."""
    images = [grid for *_, grids in references(golden) for grid in grids]
    padded = [padded_split("vae", rows * columns).length for rows, columns in images]
    return sum(padded) * 2 + sum(padded_split("text", size + 2).length for size in texts)


def story(golden: Golden) -> Story:
    """The references and the instruction."""
    if "story" not in golden.made:
        ids = golden.arrays["inf/text_ids"].tolist()
        told = Story(golden, slots_of(golden, len(ids), writing(golden)))
        for latent, cells, grids in references(golden):
            told.show(latent, cells, grids)
        told.tell(ids)
        golden.made["story"] = told
    made: Story = golden.made["story"]
    return made


def writing(golden: Golden) -> int:
    """The number of recorded steps of writing."""
    return len(golden.arrays.get("inf/gen_text/logits", ()))


def prefill_kinds(golden: Golden) -> np.ndarray:
    return np.array([call.split.kind for call in story(golden).calls])


def prefill(golden: Golden, number: str, what: str) -> Any:
    return PREFILL[what](story(golden).calls[int(number)])


def _positions(call: Call) -> np.ndarray:
    steps = np.arange(call.split.length) if call.split.kind == "text" else np.zeros(call.split.length, int)
    return call.position + steps


PREFILL: dict[str, Callable[[Call], Any]] = {
    "packed_query_sequence": lambda call: call.given,
    "output": lambda call: call.output,
    "query_lens": lambda call: np.array([call.split.length]),
    "packed_query_position_ids": _positions,
    "packed_query_indexes": lambda call: call.cached + np.arange(call.split.length),
    "key_values_lens": lambda call: np.array([call.cached]),
    "packed_key_value_indexes": lambda call: np.arange(call.cached),
    "is_causal": lambda call: np.array(call.split.kind == "text"),
    "mode": lambda call: np.array(call.kind.removesuffix("_causal")),
    "packed_vae_token_indexes": lambda call: 1 + np.arange(call.split.tokens),
    "packed_text_indexes": lambda call: np.array([0, call.split.length - 1]),
}


def context(golden: Golden, name: str, what: str) -> np.ndarray:
    branch = branch_by(golden, name)
    return np.array([branch.cached]) if what == "kv_lens" else np.asarray(branch.position)


def branch_by(golden: Golden, recorded: str) -> Branch:
    return story(golden).branches[next(ours for ours, theirs in RECORDED.items() if theirs == recorded)]


def cached(golden: Golden, name: str, what: str, layer: str) -> np.ndarray:
    """Keys or values of a layer, in the reference's order."""
    branch, told = branch_by(golden, name), story(golden)
    stored = branch.keys.k if what == "key" else branch.keys.v
    calls = told.calls[-1:] if name == RECORDED["image"] else told.calls[:-1]
    order = recorded_order(tuple(call.split for call in calls))[: branch.cached]
    return np.asarray(stored)[int(layer), 0][np.asarray(branch.seen[0])][order]


def gen_inputs(golden: Golden, what: str) -> np.ndarray:
    """What the reference's drawing is called with."""
    c, target = golden.model.config.mot, target_of(golden)
    whole = np.arange(target.length)
    found = {
        "packed_text_ids": np.array([c.image_start_id, c.image_end_id]),
        "packed_text_indexes": whole[[0, -1]],
        "packed_vae_position_ids": grid_places(target.rows, target.columns) @ [c.latent_side, 1],
        "packed_vae_token_indexes": whole[1:-1],
        "packed_seqlens": np.array([target.length]),
    }
    if what in found:
        return found[what]
    name, what = next(
        (theirs, what.removeprefix(f"{theirs}_"))
        for theirs in ("cfg_text", "cfg_img", "")
        if what.startswith(theirs)
    )
    branch = branch_by(golden, name or "cond")
    return {
        "packed_position_ids": np.full(target.length, int(branch.position[0])),
        "packed_indexes": branch.cached + whole,
        "packed_query_indexes": branch.cached + whole,
        "key_values_lens": np.array([branch.cached]),
        "packed_key_value_indexes": np.arange(branch.cached),
    }[what]


def drawing(golden: Golden, variant: str) -> Drawn:
    """The drawing of one of config.json's variants."""
    key = ("drawing", variant)
    if key not in golden.made:
        options = golden.record["infer_variants"][variant]
        noise = golden.arrays["inf/init_noise"]
        golden.made[key] = drawn(golden, story(golden).branches, target_of(golden), noise, options)
    made: Drawn = golden.made[key]
    return made


def drawn_array(golden: Golden, variant: str, what: str) -> np.ndarray:
    return of_drawing(golden, drawing(golden, variant), what)


def of_drawing(golden: Golden, made: Drawn, what: str) -> np.ndarray:
    unpacked = golden.latent(made.last, target_of(golden))[None]
    return {
        "t": made.times,
        "x_t": made.states,
        "v_final": made.guided,
        "n_forwards": np.array(made.counts),
        "final_latent_packed": made.last,
        "final_latent_unpatched": unpacked,
        "final_latent": unpacked,
    }[what]


def branch_velocity(golden: Golden, variant: str, step: str, name: str) -> np.ndarray:
    ours = next(ours for ours, theirs in RECORDED.items() if theirs == name)
    return drawing(golden, variant).branches[int(step)][ours]


def branch_hidden(golden: Golden, variant: str, step: str, name: str) -> np.ndarray:
    """The normed hidden states of the target in a branch."""
    made, target = drawing(golden, variant), target_of(golden)
    x, t = jnp.asarray(made.states[int(step)])[None], jnp.asarray(made.times[int(step)])
    pair = target_states(golden.model, branch_by(golden, name), target, x, t)
    return np.asarray(joined(pair[0], pair[1], (target,)))[0][recorded_order((target,))]


def gen_text(golden: Golden, what: str) -> np.ndarray:
    made = written(golden, story(golden).cond, writing(golden))
    return np.array(made.ids)[:, None] if what == "tokens" else made.logits[:, None]


def crossed(golden: Golden, what: str) -> np.ndarray:
    """One sample's velocity as training computes it, and from the contexts."""
    (sample,), (given,), state = (
        golden.samples("xcheck_in"),
        inputs(golden, "xcheck_in"),
        latents(golden, "xcheck_in"),
    )
    target = sample.splits[-1]
    x, t = given.latents[-1], given.times[0, 0]
    if what == "x_t":
        return np.asarray(x)[0]
    if what == "t":
        return state.times[-target.tokens :]
    if what == "v_train":
        return sample_states(golden, sample, given, None).velocity
    _, gen = target_states(golden.model, story(golden).branches["cond"], target, x, t)
    return np.asarray(through(golden, lambda net, gen: net.velocity(gen), gen))[0]


OUTPUTS: dict[str, Callable[..., np.ndarray]] = {
    r"inf/prefill_kinds": prefill_kinds,
    rf"inf/prefill_(\d+)/({'|'.join(PREFILL)})": prefill,
    r"inf/ctx_(\w+)/(kv_lens|ropes)": context,
    r"inf/ctx_(\w+)/(key|value)_layer_(\d+)": cached,
    r"inf/gen_inputs/(?!packed_init_noises)(\w+)": gen_inputs,
    r"inf/gen_text/(tokens|logits)": gen_text,
    r"inf/gen_(\w+)/(t|x_t|v_final|n_forwards|final_latent_packed|final_latent_unpatched)": drawn_array,
    r"inf/gen_(\w+)/step_(\d+)/v_(\w+)": branch_velocity,
    r"inf/gen_(\w+)/step_(\d+)/hidden_(\w+)": branch_hidden,
    r"xcheck/(x_t|t|v_train|v_infer)": crossed,
}

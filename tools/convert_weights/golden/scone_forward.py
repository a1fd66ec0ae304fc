"""Whole sequences: what enters the decoder, hidden states with and without the bridge, and predictions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from uno_jax.families.flow import interpolate, shifted
from uno_jax.families.scone.bridge import Bridge, similarity
from uno_jax.families.scone.splits import rope_positions
from uno_jax.networks.layers import rope_table, timestep_embedding
from uno_jax.networks.mot import MoT, MoTInputs, grid_places, sincos_places
from uno_jax.networks.splits import Layout, Split, Splits, joined
from uno_jax.support.trees import Params

from .scone_folder import WHOLE_ROW, Golden, Sample, recorded_order
from .scone_packing import length, packed
from .scone_samples import MIXTURE

SETTING = r"(nomask|mask|mask_q25|mask088|drop_mask)"
ROWS = {"drop_mask": "drop_in", "mix": MIXTURE}
"""The packed row of each setting of `train_*` and of the mixture, by default the first."""


class Latents(NamedTuple):
    """Of all images of a row, token by token: the clean latent, the noise, the time, and their mixture."""

    clean: np.ndarray
    noise: np.ndarray
    times: np.ndarray
    noisy: np.ndarray


def latents(golden: Golden, name: str, step: int | None = None) -> Latents:
    """Those of a row; `step` is that of one with noise and times for several."""
    images = [split for sample in golden.samples(name) for split in sample.splits if split.generated]
    stored = golden.row(name, "padded_latent")
    clean = np.concatenate(
        [golden.tokens(x, split.rows, split.columns) for x, split in zip(stored, images, strict=True)]
    )
    noise, raw = golden.row(name, "noise"), golden.row(name, "packed_timesteps")
    noise, raw = (each if step is None else each[step] for each in (noise, raw))
    with np.errstate(over="ignore"):
        times = 1 / (1 + np.exp(-raw))
    shift = golden.record.get("timestep_shift", 1.0)
    times = shifted(times, float(np.log(shift)))
    mixed = interpolate(jnp.asarray(clean)[:, None], jnp.asarray(noise)[:, None], jnp.asarray(times))
    return Latents(clean, noise, times, np.asarray(mixed)[:, 0])


def inputs(golden: Golden, name: str, step: int | None = None) -> list[MoTInputs]:
    """What the decoder is given for each sample of a row, in a `step` of several."""
    found, done, state = [], 0, latents(golden, name, step)
    for sample in golden.samples(name):
        tokens, times = [], []
        for split in sample.splits:
            if split.generated:
                tokens.append(jnp.asarray(state.noisy[done : done + split.tokens])[None])
                times += [state.times[done]] if split.kind == "target" else []
                done += split.tokens
        found.append(
            MoTInputs(
                tuple(jnp.asarray(text)[None] for text in sample.texts),
                tuple(golden.cells(picture)[None] for picture in sample.pictures),
                tuple(tokens),
                jnp.asarray(times, jnp.float32)[None],
                jnp.asarray(rope_positions(sample.splits))[None],
            )
        )
    return found


class States(NamedTuple):
    """Of one sample, in the reference's order: the hidden states after each layer and at the end, outputs of
    attention and MLPs, similarities and what of the references targets see; and the predicted velocity.
    """

    layers: np.ndarray
    last: np.ndarray
    attention: np.ndarray
    mlps: np.ndarray
    similarity: np.ndarray
    seen: np.ndarray
    velocity: np.ndarray


def states(golden: Golden, setting: str) -> list[States]:
    """Those of each sample of a setting's row."""
    threshold, row = threshold_of(golden, setting), ROWS.get(setting, WHOLE_ROW)
    return [
        sample_states(golden, sample, given, threshold)
        for sample, given in zip(golden.samples(row), inputs(golden, row), strict=True)
    ]


def threshold_of(golden: Golden, setting: str) -> float | None:
    """The bridge's, None without."""
    mask = golden.record["semantic_mask"]
    if setting == "mask088":
        return float(mask["threshold_original"])
    if setting == "mask_q25":
        return float(golden.arrays["meta/threshold_q25"])
    return None if setting in ("nomask", "mix") else float(mask["threshold_used"])


def sample_states(golden: Golden, sample: Sample, given: MoTInputs, threshold: float | None) -> States:
    splits, c = sample.splits, golden.model.config.mot
    key = ("states", splits, np.asarray(given.times).tobytes(), threshold)
    if key in golden.made:
        found: States = golden.made[key]
        return found
    bridge = None if threshold is None else Bridge(splits, threshold)
    net, layout = MoT(c), Layout(splits, bridge=bridge)

    @jax.jit
    def run(params: Params) -> Any:
        variables = {"params": params}
        hidden, captured = net.apply(
            variables, given, layout, capture_intermediates=wanted, mutable=["intermediates"]
        )
        blocks = captured["intermediates"]["blocks"]  # type: ignore[index]
        (und, gen, _), _ = blocks["__call__"][0]
        outputs = [
            [blocks[expert][part]["__call__"][0] for expert in ("und", "gen")] for part in ("o_proj", "mlp")
        ]
        alike = similarity(und[c.bridge_layer], splits)
        seen = jnp.ones_like(alike, bool) if bridge is None else bridge(und[c.bridge_layer])
        velocity = net.apply(variables, hidden.gen[:, drawn_tokens(splits)], method="velocity")
        return (und, gen), (hidden.und, hidden.gen), outputs, alike, seen, velocity

    layers, last, (attention, mlps), alike, seen, velocity = run(golden.model.params["mot"])
    order = recorded_order(splits)

    def row(pair: Any) -> np.ndarray:
        return np.asarray(joined(pair[0], pair[1], splits))[0][order]

    def stacked(pair: Any) -> np.ndarray:
        return np.stack([row(each) for each in zip(*pair, strict=True)])

    made = States(
        stacked(layers),
        row(last),
        stacked(attention),
        stacked(mlps),
        np.asarray(alike)[0][order],
        np.asarray(seen)[0][order],
        np.asarray(velocity)[0],
    )
    golden.made[key] = made
    return made


def wanted(module: Any, method: str) -> bool:
    return method == "__call__" and module.name in ("blocks", "o_proj", "mlp")


def hidden_after(golden: Golden, setting: str, layer: str) -> np.ndarray:
    return np.concatenate([each.layers[int(layer)] for each in states(golden, setting)])


def whole(golden: Golden, setting: str, what: str) -> np.ndarray:
    """An array of all tokens, or of all targets' tokens."""
    field = {
        "last_hidden_state": "last",
        "semantic_similarity": "similarity",
        "packed_mse_preds": "velocity",
    }[what]
    return np.concatenate([getattr(each, field) for each in states(golden, setting)])


def semantic_mask(golden: Golden, setting: str) -> np.ndarray:
    seen = np.concatenate([each.seen for each in states(golden, setting)])
    return np.where(seen, np.float32(0), np.float32(-np.inf))


def attention_out(golden: Golden, setting: str, layer: str) -> np.ndarray:
    return np.concatenate([each.attention[int(layer)] for each in states(golden, setting)])


def mlp_out(golden: Golden, setting: str, expert: str, layer: str) -> np.ndarray:
    """Text and marks, then the ViT's tokens; or latent tokens."""
    every = np.concatenate([each.mlps[int(layer)] for each in states(golden, setting)])
    kinds = ("text", "vit") if expert == "und" else ("vae",)
    name = ROWS.get(setting, WHOLE_ROW)
    return np.concatenate([every[packed(golden, name, f"packed_{kind}_{_PLURAL[kind]}")] for kind in kinds])


_PLURAL = {"text": "indexes", "vit": "token_indexes", "vae": "token_indexes"}


def squared_error(golden: Golden, setting: str) -> np.ndarray:
    row = ROWS.get(setting, WHOLE_ROW)
    return (whole(golden, setting, "packed_mse_preds") - target_velocity(golden, row)) ** 2


def loss(golden: Golden, setting: str) -> np.ndarray:
    return squared_error(golden, setting).mean()


def target_velocity(golden: Golden, row: str = WHOLE_ROW, step: int | None = None) -> np.ndarray:
    """Noise minus picture, of the targets' tokens."""
    state = latents(golden, row, step)
    kinds = [split for each in golden.samples(row) for split in each.splits]
    return (state.noise - state.clean)[drawn_tokens(kinds)]


def drawn_tokens(splits: Sequence[Split]) -> np.ndarray:
    """Which latent tokens are those of targets."""
    return np.concatenate(
        [np.array([], bool), *(np.full(split.generated, split.kind == "target") for split in splits)]
    )


def target_tokens(golden: Golden, setting: str) -> np.ndarray:
    row = ROWS.get(setting, WHOLE_ROW)
    mask = np.zeros(sum(length(sample.splits) for sample in golden.samples(row)), bool)
    mask[packed(golden, row, "mse_loss_indexes")] = True
    return mask


def masked_layers(golden: Golden, setting: str) -> np.ndarray:
    c = golden.model.config.mot
    first, last = c.bridge_masked
    return np.arange(first, min(last + 1, c.num_layers)) if setting != "nomask" else np.array([])


def shared(golden: Golden, what: str) -> np.ndarray:
    return np.asarray(SHARED[what](golden))


def vit_out(golden: Golden) -> jax.Array:
    return jnp.concatenate([golden.cells(x) for each in golden.samples(WHOLE_ROW) for x in each.pictures])


def through(golden: Golden, method: Callable[..., Any], *arguments: Any) -> jax.Array:
    """What a part of the decoder makes of an input."""
    variables = {"params": golden.model.params["mot"]}
    return cast(jax.Array, MoT(golden.model.config.mot).apply(variables, *arguments, method=method))


def times_through(golden: Golden, times: np.ndarray) -> jax.Array:
    return through(
        golden, lambda net, t: net.time_embedder(timestep_embedding(t, factor=1.0)), jnp.asarray(times)
    )


def positions(golden: Golden, kinds: tuple[str, ...], side: str) -> jax.Array:
    c = golden.model.config.mot
    grids = [split for each in golden.samples(WHOLE_ROW) for split in each.splits if split.kind in kinds]
    places = np.concatenate([grid_places(split.rows, split.columns) for split in grids])
    return sincos_places(places, getattr(c, side), c.hidden_size)


def sequence_in(golden: Golden) -> np.ndarray:
    found = []
    for sample, given in zip(golden.samples(WHOLE_ROW), inputs(golden, WHOLE_ROW), strict=True):
        found.append(embedded(golden, given, sample.splits))
    return np.concatenate(found)


def embedded(golden: Golden, given: MoTInputs, splits: Splits) -> np.ndarray:
    """What enters the first layer, in the reference's order."""
    und, gen = through(golden, partial(MoT.embed, splits=splits), given)
    return np.asarray(joined(und, gen, splits))[0][recorded_order(splits)]


def rope(golden: Golden, number: int) -> np.ndarray:
    c = golden.model.config.mot
    ids = packed(golden, WHOLE_ROW, "packed_position_ids")
    table = rope_table(jnp.asarray(ids)[:, None], (c.head_dim,), c.rope_theta)[number]
    return np.concatenate([table, table], axis=-1)


SHARED: dict[str, Callable[[Golden], Any]] = {
    "vit_model_out": vit_out,
    "connector_out": lambda golden: through(golden, lambda net, x: net.connector(x), vit_out(golden)),
    "vit_pos_embed_out": lambda golden: positions(golden, ("vit",), "vit_side"),
    "latent_pos_embed_out": lambda golden: positions(golden, ("vae", "target"), "latent_side"),
    "timesteps_shifted": lambda golden: latents(golden, WHOLE_ROW).times,
    "time_embedder_out": lambda golden: times_through(golden, latents(golden, WHOLE_ROW).times),
    "packed_latent_clean": lambda golden: latents(golden, WHOLE_ROW).clean,
    "packed_latent_noisy": lambda golden: latents(golden, WHOLE_ROW).noisy,
    "vae2llm_out": lambda golden: through(
        golden, lambda net, x: net.vae2llm(x), jnp.asarray(latents(golden, WHOLE_ROW).noisy)
    ),
    "packed_sequence_in": sequence_in,
    "rope_cos": partial(rope, number=0),
    "rope_sin": partial(rope, number=1),
    "target_velocity": target_velocity,
}


def probed_times(golden: Golden, what: str) -> np.ndarray:
    times = golden.arrays["probe/t"]
    made = (
        timestep_embedding(jnp.asarray(times), factor=1.0) if what == "freq" else times_through(golden, times)
    )
    return np.asarray(made)


OUTPUTS: dict[str, Callable[..., np.ndarray]] = {
    rf"shared/({'|'.join(SHARED)})": shared,
    rf"train_{SETTING}/hidden_after_layer_(\d+)": hidden_after,
    rf"train_{SETTING}/(last_hidden_state|semantic_similarity|packed_mse_preds)": whole,
    rf"train_{SETTING}/semantic_mask": semantic_mask,
    rf"train_{SETTING}/attn_out_layer_(\d+)": attention_out,
    rf"train_{SETTING}/mlp_(und|moe_gen)_out_layer_(\d+)": mlp_out,
    rf"train_{SETTING}/mse": squared_error,
    rf"train_{SETTING}/loss": loss,
    rf"train_{SETTING}/target_token_mask": target_tokens,
    rf"train_{SETTING}/layers_with_semantic_mask": masked_layers,
    r"probe/t_(freq|emb)": probed_times,
}

"""The integers of packed rows: lengths, ids, indexes, positions, and masks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from uno_jax.families.scone.splits import rope_positions, token_rules, visible
from uno_jax.networks.mot import grid_places
from uno_jax.networks.splits import Split, Splits, starts

from .scone_folder import Golden, recorded_order
from .scone_samples import GIVEN, Sample, answer_indexes

MODES = {"vae": "full", "vit": "full", "text": "causal", "target": "noise"}


def packed(golden: Golden, name: str, key: str) -> np.ndarray:
    """An array of a row as long as all of its samples."""
    samples = golden.samples(name)
    starts_at = np.cumsum([0, *(length(sample.splits) for sample in samples)])
    made = [PACKED[key](golden, sample) for sample in samples]
    if key.endswith("indexes"):
        made = [each + start for each, start in zip(made, starts_at, strict=False)]
    return np.concatenate(made)


def length(splits: Splits) -> int:
    return sum(split.length for split in splits)


def text_ids(golden: Golden, sample: Sample) -> np.ndarray:
    """The ids of texts and marks."""
    c, found, texts = golden.model.config.mot, [], iter(sample.texts)
    for split in sample.splits:
        found += list(next(texts)) if split.kind == "text" else [c.image_start_id, c.image_end_id]
    return np.array(found)


def indexes(*kinds: str) -> Callable[[Golden, Sample], np.ndarray]:
    """Where the tokens of some kinds of splits are; without marks, or the marks and texts alone."""

    def find(golden: Golden, sample: Sample) -> np.ndarray:
        found: list[int] = []
        for start, split in starts(sample.splits):
            inside = list(range(start, start + split.length))
            image = split.kind != "text"
            if "marks" in kinds and image:
                found += [inside[0], inside[-1]]
            elif split.kind in kinds:
                found += inside[1:-1] if image else inside
        return np.array(found, int)

    return find


def places(kind: tuple[str, ...], side: str) -> Callable[[Golden, Sample], np.ndarray]:
    """The numbers of images' tokens in their table of positions."""

    def find(golden: Golden, sample: Sample) -> np.ndarray:
        grids = [grid_places(split.rows, split.columns) for split in sample.splits if split.kind in kind]
        across = getattr(golden.model.config.mot, side)
        return np.concatenate([np.array([], int), *(grid @ [across, 1] for grid in grids)])

    return find


def shapes(*kinds: str) -> Callable[[Golden, Sample], np.ndarray]:
    return lambda golden, sample: np.array(
        [(split.rows, split.columns) for split in sample.splits if split.kind in kinds]
    )


def pixels(golden: Golden, sample: Sample) -> np.ndarray:
    """Patches of pictures: rows, columns, channels."""
    side, found = golden.model.config.vit.patch_size, []
    for picture in sample.pictures:
        rows, columns = (size // side for size in picture.shape[:2])
        patches = picture.reshape(rows, side, columns, side, -1).transpose(0, 2, 1, 3, 4)
        found.append(patches.reshape(rows * columns, -1))
    return np.concatenate(found)


PACKED: dict[str, Callable[[Golden, Sample], np.ndarray]] = {
    "sample_lens": lambda golden, sample: np.array([length(sample.splits)]),
    "packed_text_ids": text_ids,
    "packed_text_indexes": indexes("text", "marks"),
    "packed_instruc_indexes": indexes("text"),
    "packed_vae_token_indexes": indexes("vae", "target"),
    "packed_vit_token_indexes": indexes("vit"),
    "mse_loss_indexes": indexes("target"),
    "packed_position_ids": lambda golden, sample: rope_positions(sample.splits)[
        recorded_order(sample.splits)
    ],
    "packed_latent_position_ids": places(("vae", "target"), "latent_side"),
    "packed_vit_position_ids": places(("vit",), "vit_side"),
    "patchified_vae_latent_shapes": shapes("vae", "target"),
    "patchified_vit_token_shapes": shapes("vit"),
    "vit_token_seqlens": lambda golden, sample: np.array(
        [split.tokens for split in sample.splits if split.kind == "vit"]
    ),
    "packed_vit_tokens": pixels,
    "ce_loss_indexes": lambda golden, sample: answer_indexes(
        sample, lambda start, ids: start + np.arange(len(ids) - 1)
    ),
    "packed_label_ids": lambda golden, sample: answer_indexes(sample, lambda start, ids: ids[1:]),
    "ce_loss_weights": lambda golden, sample: answer_indexes(
        sample, lambda start, ids: np.full(len(ids) - 1, (len(ids) - 1) ** -0.5, np.float32)
    ),
}


def sequence_length(golden: Golden, name: str) -> np.ndarray:
    return np.array(sum(length(sample.splits) for sample in golden.samples(name)))


def attention_mask(golden: Golden, name: str, number: str) -> np.ndarray:
    """0 where a token (row) sees another one, and -inf."""
    splits = golden.samples(name)[int(number)].splits
    seen, order = visible(token_rules([splits])), recorded_order(splits)
    return np.where(seen[order][:, order], np.float32(0), np.float32(-np.inf))


def split_record(golden: Golden, what: str, number: str) -> np.ndarray:
    splits = golden.sample(int(number)).splits
    values: list[Any] = [split.length if what == "split_lens" else MODES[split.kind] for split in splits]
    return np.array(values)


def position_probe(golden: Golden, rows: str, columns: str) -> np.ndarray:
    sample = Sample((Split("vae", int(rows), int(columns)),), (), ())
    return PACKED["packed_latent_position_ids"](golden, sample)


OUTPUTS: dict[str, Callable[..., np.ndarray]] = {
    rf"(in|drop_in|xcheck_in)/({'|'.join(PACKED)})": packed,
    rf"(mix_in)/({'|'.join(PACKED.keys() - GIVEN)})": packed,
    r"(in|drop_in|xcheck_in|mix_in)/sequence_length": sequence_length,
    r"(in|drop_in|xcheck_in|mix_in)/nested_attention_mask_(\d+)": attention_mask,
    r"in/(split_lens|attn_modes)_sample_(\d+)": split_record,
    r"probe/get_flattened_position_ids_extrapolate_(\d+)x(\d+)": position_probe,
}

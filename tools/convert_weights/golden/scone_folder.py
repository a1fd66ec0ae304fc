"""What a recording of Scone holds: its networks, converted as users convert them, and its packed rows."""

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uno_jax.families.model import Model
from uno_jax.families.scone.config import SconeConfig
from uno_jax.families.scone.splits import Reference, drawing_splits
from uno_jax.networks.splits import Split, Splits
from uno_jax.networks.vae import VAEConfig
from uno_jax.networks.vit import ViT
from uno_jax.weights.checkpoint import restore_network

from ..convert import convert, plan
from ..mapping import ConversionError
from ..scone import open_bagel
from ..source import read_json
from ..tables import mot
from .recording import Tensors, read_arrays
from .scone_samples import MIXTURE, Sample, mixed_samples

WEIGHTS = "model.safetensors"
WHOLE_ROW = "in"


@dataclass(frozen=True, eq=False)
class Golden:
    """A folder's arrays and config.json; what is computed of them is kept in `made`."""

    folder: Path
    arrays: Tensors
    record: dict[str, Any]
    made: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def model(self) -> Model:
        """Both networks, converted and restored, without an autoencoder's parameters."""
        source = open_bagel(self.folder / WEIGHTS)
        with tempfile.TemporaryDirectory() as place:
            parts = [
                restore_network(convert(plan(each, source), Path(place))) for each in (mot.MODEL, mot.EYES)
            ]
        (decoder, decoder_params), (eyes, eyes_params) = parts
        config = SconeConfig(decoder, eyes, VAEConfig(latent_channels=decoder.latent_channels))
        return Model(config, {"mot": decoder_params, "vit": eyes_params})

    def row(self, name: str, key: str) -> np.ndarray:
        """An array of a packed row; what a row lacks is that of the first one."""
        own = f"{name}/{key}"
        return self.arrays[own if own in self.arrays else f"{WHOLE_ROW}/{key}"]

    def samples(self, name: str) -> list[Sample]:
        """The samples of a packed row. A sample that is shorter than its splits has lost its text."""
        c = self.model.config
        if name == MIXTURE:
            marks = (c.mot.bos_id, c.mot.eos_id)
            return mixed_samples(self.arrays, marks, c.vit.patch_size)
        lengths = self.row(name, "sample_lens")
        numbers, found = list(range(len(self.record["samples"]))), []
        numbers = numbers if len(lengths) == len(numbers) else [self.record["infer_sample"]]
        for number, length in zip(numbers, lengths, strict=True):
            whole = self.sample(number)
            short = sum(split.length for split in whole.splits) > length
            found.append(self.sample(number, dropped=True) if short else whole)
        return found

    def sample(self, number: int, dropped: bool = False) -> Sample:
        c, record = self.model.config.mot, self.record["samples"][number]
        references = [Reference(tuple(latent), tuple(cells)) for latent, cells in record["refs"]]
        ids = self.arrays[f"in/text_ids_sample_{number}"]
        texts = () if dropped else (np.array([c.bos_id, *ids, c.eos_id], np.int32),)
        splits = drawing_splits(references, None if dropped else len(ids) + 2, tuple(record["target"]))
        pictures = [self.arrays[f"in/vit_image_sample_{number}_ref_{i}"] for i in range(len(references))]
        return Sample(splits, texts, tuple(each.transpose(1, 2, 0) for each in pictures))

    def cells(self, picture: np.ndarray) -> jax.Array:
        """The ViT's features of a picture (h, w, 3), row by row."""
        key = ("cells", picture.tobytes())
        if key not in self.made:
            config, params = self.model.config.vit, self.model.params["vit"]
            run = jax.jit(lambda params, x: ViT(config).apply({"params": params}, x))
            self.made[key] = run(params, jnp.asarray(picture)[None]).reshape(-1, config.hidden_size)
        return self.made[key]

    def tokens(self, latent: np.ndarray, rows: int, columns: int) -> np.ndarray:
        """The tokens of a latent's first rows and columns (z, h, w): cells in order row, column, channel."""
        side = self.model.config.mot.latent_patch
        cut = latent[:, : rows * side, : columns * side].reshape(len(latent), rows, side, columns, side)
        return cut.transpose(1, 3, 2, 4, 0).reshape(rows * columns, -1)

    def latent(self, tokens: np.ndarray, target: Split) -> np.ndarray:
        """The inverse of `tokens`."""
        side = self.model.config.mot.latent_patch
        cells = tokens.reshape(target.rows, target.columns, side, side, -1).transpose(4, 0, 2, 1, 3)
        return cells.reshape(len(cells), target.rows * side, target.columns * side)


def load_golden(folder: Path) -> Golden:
    """Reads golden.npz and config.json.

    Raises FileNotFoundError, or ConversionError when one cannot be read.
    """
    record = read_json(folder / "config.json")
    for name, kind in (("samples", list), ("infer_variants", dict), ("semantic_mask", dict)):
        if not isinstance(record.get(name), kind):
            raise ConversionError(
                f"{folder / 'config.json'} is not of a recording of Scone's: it lacks {name}"
            )
    return Golden(folder, read_arrays(folder), record)


def recorded_order(splits: Splits) -> np.ndarray:
    """Where the reference's tokens are among ours: it has an image's second mark after the image, and we have
    both marks before it.
    """
    order: list[int] = []
    for split in splits:
        place = list(range(len(order), len(order) + split.length))
        if split.generated:
            first, second, *image = place
            place = [first, *image, second]
        order += place
    return np.array(order)

"""A row of several kinds of samples, with losses on pictures and on texts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .scone_folder import Golden
from .scone_forward import hidden_after, loss, squared_error, through, whole
from .scone_packing import packed
from .scone_samples import MIXTURE

ROW = "mix"
TEXT_WEIGHT = 0.25


def cross_entropy(golden: Golden) -> np.ndarray:
    """Of every token that has a label."""
    states = whole(golden, ROW, "last_hidden_state")[packed(golden, MIXTURE, "ce_loss_indexes")]
    logits = through(golden, lambda net, x: net.logits(x), jnp.asarray(states)[None])[0]
    labels = packed(golden, MIXTURE, "packed_label_ids")
    return -np.asarray(jax.nn.log_softmax(logits))[np.arange(len(labels)), labels]


def reweighted(golden: Golden) -> np.ndarray:
    return np.average(cross_entropy(golden), weights=packed(golden, MIXTURE, "ce_loss_weights"))


LOSSES: dict[str, Callable[[Golden], Any]] = {
    "ce": cross_entropy,
    "ce_loss": lambda golden: cross_entropy(golden).mean(),
    "ce_loss_reweighted": reweighted,
    "mse": partial(squared_error, setting=ROW),
    "mse_loss": partial(loss, setting=ROW),
    "loss_ce025": lambda golden: TEXT_WEIGHT * cross_entropy(golden).mean() + loss(golden, ROW),
}


def of_mixture(golden: Golden, what: str) -> np.ndarray:
    return np.asarray(LOSSES[what](golden))


OUTPUTS: dict[str, Callable[..., np.ndarray]] = {
    rf"({ROW})/hidden_after_layer_(\d+)": hidden_after,
    rf"({ROW})/(last_hidden_state)": whole,
    rf"{ROW}/({'|'.join(LOSSES)})": of_mixture,
}

"""Rounds in which a model and its training pairs improve in turn, and the classes of a config of them."""

from uno_jax.ablation.grid import Score
from uno_jax.coevolution.config import SINGLE, TWO, Coevolution, load_coevolution

__all__ = ["SINGLE", "TWO", "Coevolution", "Score", "load_coevolution"]

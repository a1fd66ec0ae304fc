"""Grids of trainings and evaluations, and the classes that a config of one consists of."""

from uno_jax.ablation.grid import Ablation, Score, Variant, load_ablation

__all__ = ["Ablation", "Score", "Variant", "load_ablation"]

"""Grids of trainings and evaluations; what a config of one is made of."""

from uno_jax.ablation.grid import Ablation, Score, Variant, load_ablation

__all__ = ["Ablation", "Score", "Variant", "load_ablation"]

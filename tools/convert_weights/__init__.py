"""Weights between the formats of other programs and uno_jax, by mapping tables."""

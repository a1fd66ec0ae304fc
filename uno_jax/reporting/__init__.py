"""Runs on disk -> one page with their tables, plots and pictures (`python -m uno_jax.report`)."""

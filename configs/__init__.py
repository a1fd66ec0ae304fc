"""Training recipes, one Python file each: `--config configs/NAME.py` here, `uno_jax_configs` when installed."""

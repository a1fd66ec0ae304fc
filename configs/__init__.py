"""Training recipes, one Python file each: `--config configs/NAME.py`; installed as `uno_jax_configs`."""

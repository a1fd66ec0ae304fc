"""Command-line tools around uno_jax: `python -m tools.NAME` here, `uno_jax_tools.NAME` when installed."""

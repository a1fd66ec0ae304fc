"""Instruction following and subject consistency of drawn pictures, judged by a vision-language model.

For what cosines miss. Reads what `uno_jax.evaluate` or any other program drew; asks through the client of
tools/synthesize_data.
"""

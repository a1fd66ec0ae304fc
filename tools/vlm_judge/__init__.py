"""Instruction following and subject consistency of drawn pictures, judged by a vision-language model.

It finds what cosines miss, in pictures drawn by `uno_jax.evaluate` or any other program.
"""

"""Training pairs from weaker models: generate diptychs, split, filter, redraw second references (PyTorch).

A program for the UNO paper's section 3.2 and appendix F. It runs uno_jax's commands and reads and writes
their files; of uno_jax's code it uses only uno_jax.support.
"""

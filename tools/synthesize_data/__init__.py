"""Training pairs from weaker models: generate diptychs, split, filter, redraw second references (PyTorch).

The UNO paper's section 3.2 and appendix F as a program. It meets uno_jax in files and command lines only.
"""

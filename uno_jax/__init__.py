"""UNO in JAX/Flax: subject-driven generation on FLUX.1, from conversion to training and sampling."""

__version__ = "0.1.0"

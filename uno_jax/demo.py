"""`python -m uno_jax.demo`: the tour of the small model."""

from uno_jax.apps.tour import main

if __name__ == "__main__":
    main()

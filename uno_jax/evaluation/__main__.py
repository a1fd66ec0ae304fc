"""`uno-ceilings`, `python -m uno_jax.evaluation`: the scores that real composites get, without any model."""

from uno_jax.evaluation.toybox.ceilings import main

if __name__ == "__main__":
    main()

"""`python -m uno_jax.train --config RECIPE`: one training run (`uno_jax.training.run`)."""

from uno_jax.training.run import main

if __name__ == "__main__":
    main()

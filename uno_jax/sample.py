"""`python -m uno_jax.sample --prompt TEXT`: pictures of a prompt or of a list (`uno_jax.sampling.run`)."""

from uno_jax.sampling.run import main

if __name__ == "__main__":
    main()

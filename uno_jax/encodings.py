"""`python -m uno_jax.encodings --config RECIPE --out DIR`: encode a recipe's lists once."""

from uno_jax.training.encode_dataset import main

if __name__ == "__main__":
    main()

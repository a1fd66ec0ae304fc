"""`python -m uno_jax.report RUN…`: one page of evaluations and training runs."""

from uno_jax.reporting.write import main

if __name__ == "__main__":
    main()

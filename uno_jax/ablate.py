"""`python -m uno_jax.ablate --config FILE --out DIR`: a grid of trainings and evaluations."""

from uno_jax.ablation.run import main

if __name__ == "__main__":
    main()

"""The parts: each is a module with a function `run(bench)`, which records rows."""

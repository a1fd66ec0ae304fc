"""Recomputing what the reference implementations recorded: a module or more for each family."""

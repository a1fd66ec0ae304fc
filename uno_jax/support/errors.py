"""Errors that more than one folder raises; their messages say what was expected, what came and what to do."""


class CheckpointError(ValueError):
    """A file or directory is not the checkpoint that was asked for."""


class RecipeError(ValueError):
    """A run's settings cannot work; found before any weight is loaded."""

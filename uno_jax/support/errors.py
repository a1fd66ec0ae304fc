"""Errors raised by more than one folder. Messages say what was expected, what was found and what to do."""


class CheckpointError(ValueError):
    """A file or directory is not the expected checkpoint."""


class RecipeError(ValueError):
    """A run's settings cannot work. Raised before any weights are loaded."""


class FileKindError(OSError):
    """A directory, a named pipe, a socket or a device stands where a file is needed."""


class InUseError(OSError):
    """Another command writes to the same place."""

"""The error that every tool raises for what its user can change."""


class ToolError(ValueError):
    """A tool cannot go on; the message says what was expected, what was found, where, and what to do."""

"""Runs the conversion command in this process."""

import pytest

from tools.convert_weights.__main__ import main


def run(*arguments: object) -> int:
    """Its exit status."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code or 0

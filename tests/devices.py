"""Simulated devices for programs that tests start."""

import os


def simulated(count: int) -> dict[str, str]:
    """The environment of a program that sees so many devices and compiles as the tests do."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"
    return os.environ | {"XLA_FLAGS": flags}

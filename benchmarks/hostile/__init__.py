"""Servers, files and command lines made to harm, and what the commands make of them: none may end in a
traceback, hang, or take the memory. `server` is an HTTP server that misbehaves, for tests.

    python -m benchmarks.hostile --out DIR                # a seventh of the cases
    python -m benchmarks.hostile --part 1/1               # all of them
    python -m benchmarks.hostile --part 1/1 --only uno_jax.sample --kind pictures

Each kind of case is a file here with a function that yields them. A case runs in a folder of its own, in a
fork of a process that has imported the command, so that it costs what the command does and not the imports.
"""

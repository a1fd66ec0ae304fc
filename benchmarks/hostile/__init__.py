"""Hostile command lines and files for every command: none may end in a traceback, hang, or take the memory.

    python -m benchmarks.hostile --out DIR               # all of them: 30 to 40 minutes on two cores
    python -m benchmarks.hostile --part 1/4              # every fourth
    python -m benchmarks.hostile --only uno_jax.sample --kind pictures

Each kind of case is a file here with a function that yields them. A case runs in a folder of its own, in a
fork of a process that has imported the command, so that it costs what the command does and not the imports.
"""

"""What one GPU does with the full-size model, by one command: `python -m benchmarks.gpu`.

`__main__` runs the parts of `schedule` one after another, each in a process of its own (`child`) with its
share of the time; a part writes each figure to results.json as soon as it is known (`results`). Where there
is no GPU the same parts run with the tiny model, as a rehearsal.
"""

"""A light instance of benchmarks/fuzz/lists.py: no mutated list or config ends in another exception."""

import pytest

from benchmarks.fuzz.lists import fuzz, kinds, mutation, write_pictures

RUNS = 60


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_mutated_files_are_read_or_refused_clearly(kind, tmp_path):
    write_pictures(tmp_path)
    found = fuzz(kind, RUNS, seed=1, folder=tmp_path)
    assert found.failures == []
    assert found.good + found.clear == RUNS and found.clear > 0


def test_a_run_can_be_repeated_by_its_number():
    kind = next(kinds())
    first, second = ([mutation(kind, number, seed) for number in range(20)] for seed in (1, 2))
    assert first == [mutation(kind, number, 1) for number in range(20)] and first != second

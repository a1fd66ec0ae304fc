"""benchmarks/hostile in small: it finds each way to fail, and the cheap commands fail in none."""

import pytest

from benchmarks.hostile import kinds, numbers
from benchmarks.hostile.__main__ import Bench, summary
from benchmarks.hostile.case import BASES, Case, spoilt
from benchmarks.hostile.given import PARTS
from benchmarks.hostile.numbers import greatest, numeric_options
from benchmarks.hostile.process import Limits
from benchmarks.hostile.verdicts import EXPECTED

BAD = "tests.bad_command"
LIMITS = Limits(seconds=1.0, memory=300 << 20)
CHEAP = ("pack: ", "toybox: ")  # others start processes of their own, or draw


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("hostile"), LIMITS)
    yield bench
    bench.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("raise", "traceback"),
        ("wait", "hang"),
        ("spin", "hang"),
        ("start", "hang"),
        ("fill", "past memory"),
        ("ask", "past memory"),
        ("kill", "killed by signal"),
        ("lines", "otherwise"),
        ("escape", "otherwise"),
        ("refuse", EXPECTED),
    ],
)
def test_each_way_to_fail_is_found(bad, word, found, tmp_path):
    result = bad.judge("bad", Case(BAD, word, (word,)), keep=tmp_path)
    assert (result.verdict, bool(result.why)) == (found, found != EXPECTED)
    assert len([*tmp_path.rglob("*.txt")]) == (found != EXPECTED)
    assert f"| {BAD} | 1 |" in summary([result])


@pytest.mark.slow
def test_long_work_must_stop_when_it_is_asked_to(bad):
    assert bad.judge("bad", Case(BAD, "stop", ("stop",), works=True)).verdict == EXPECTED
    assert bad.judge("bad", Case(BAD, "wait", ("wait",), works=True)).verdict == "traceback"


def test_numbers_are_tried_for_every_numeric_option_of_a_help():
    text = (
        "│ --steps {None}|INT  Steps. │\n│ --size INT INT │\n│ --out PATH │\n│ --share FLOAT                │"
    )
    assert numeric_options(text) == {"--steps": 1, "--size": 2, "--share": 1}


def test_a_bound_is_followed_by_its_greatest_number():
    case = spoilt("check", "--data.resolution 1000000000", "--data.resolution=1000000000")
    found = greatest(case, "error: --data.resolution must be at most 4,096, got 1,000,000,000")
    assert found and found.words[-1] == "--data.resolution=4096" and found.works
    assert greatest(case, "wrote new.json") is None


def test_every_part_that_cases_are_given_can_be_made():
    asked = {part for base in BASES.values() for part in base.given}
    asked |= {part for name in ("models", "scone") for case in kinds.FILES[name]() for part in case.given}
    assert asked <= PARTS.keys() and {"scone", "bagel", "turns"} <= asked


@pytest.mark.slow
def test_scones_damaged_files_are_refused(tmp_path):
    """A few of each sort: networks, tokenizers, BAGEL's own files, and turns."""
    bench = Bench(tmp_path, Limits())
    every = [case for case in kinds.FILES["scone"]() if not case.works]
    results = [bench.judge("scone", case) for case in every[:: len(every) // 8]]
    bench.close()
    wrong = [(each.case.name, each.verdict, each.why) for each in results if each.verdict != EXPECTED]
    assert len(results) >= 8 and not wrong


@pytest.mark.slow
def test_cheap_commands_end_as_expected(tmp_path):
    bench = Bench(tmp_path, Limits())
    files = (case for name in ("lists", "names", "outputs") for case in kinds.FILES[name]())
    every = (*files, *numbers.cases(lambda base: bench.help_of(BASES[base]), "uno_jax.data"))
    cheap = [case for case in every if case.name.startswith(CHEAP) and not case.stdout]
    results = [bench.judge("cheap", case) for case in cheap[:: len(cheap) // 60]]
    bench.close()
    wrong = [(each.case.name, each.verdict, each.why) for each in results if each.verdict != EXPECTED]
    assert len(results) >= 60 and not wrong

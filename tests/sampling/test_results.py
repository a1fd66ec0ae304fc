import tracemalloc
from pathlib import Path

from tests.tiny_model import TINY
from uno_jax.families.flow import sampling_schedule
from uno_jax.families.uno.settings import make_settings
from uno_jax.sampling.job_list import Job
from uno_jax.sampling.results import plan_outputs


def test_a_planned_picture_does_not_hold_its_schedule():
    """1.2 million pictures fit in 1.5 GB only while each takes less than 1 kB, whatever its steps."""
    jobs, settings = [Job("a cat", (), 64, 64, seed, 64) for seed in range(500)], make_settings(TINY, 1000)
    plan_outputs(jobs[:1], settings, 1, Path("out"), {})
    tracemalloc.start()
    outputs = plan_outputs(jobs, settings, 2, Path("out"), {"version": "0"})
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 1000 * len(outputs)
    assert outputs[3].record["schedule"] == sampling_schedule(1000, 64, 64).tolist()
    assert (outputs[3].record["version"], outputs[3].record["seed"]) == ("0", 2)

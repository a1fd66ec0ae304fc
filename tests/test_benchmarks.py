"""Light instances of the speed benchmarks: both sides agree, and depth does not enter a program's size."""

import jax
import numpy as np
import pytest

from benchmarks import compile_time, encodings, forward, lora_gradient, prompt_words
from benchmarks.scone import cached, compilation, operations
from benchmarks.scone import forward as scone_forward
from tests.tiny_model import write_model
from tests.tiny_scone import MOT as SCONE
from uno_jax.families.scone.splits import Reference, drawing_splits
from uno_jax.networks.mmdit_config import MMDiTConfig
from uno_jax.networks.registry import abstract_params
from uno_jax.weights.load import load_model

# Head size 128: the only one whose rope axes a diffusers folder need not tell.
SMALL = MMDiTConfig(
    hidden_size=128, num_heads=1, depth=1, depth_single_blocks=1, vec_in_dim=24, context_in_dim=40
)


@pytest.mark.slow
def test_both_sides_of_the_forward_benchmark_agree():
    rows = forward.compare(SMALL, text=8, sizes=((2, 2), (2, 2)), rounds=1, compiled=False)
    assert [row[0] for row in rows] == ["uno_jax", "diffusers, eager"]


@pytest.mark.slow
def test_both_sides_of_the_lora_benchmark_agree():
    sides = lora_gradient.make_sides(SMALL, 8, ((2, 2), (2, 2)), rank=4, remats=("none",))
    rows = lora_gradient.compare(sides, rounds=1)  # which raises where loss or gradients differ
    assert [row[0] for row in rows] == [
        "uno_jax, remat none",
        lora_gradient.CHECKPOINTED,
        lora_gradient.PLAIN,
    ]


@pytest.mark.slow
def test_the_encodings_benchmark_counts_what_the_encoders_do():
    """README and docs/benchmarks.md say 93 %; the encoders are 7 of 101 TFLOP a stage I sample."""
    cached = {name: float(tflop) for name, tflop in encodings.full_size()}
    assert cached["nothing"] > cached["vae"] > cached["vae,t5,clip"]
    assert 0.925 < cached["vae,t5,clip"] / cached["nothing"] < 0.935


def test_blocks_are_scanned():
    def lines(depth: int, singles: int) -> int:
        config = MMDiTConfig(**compile_time.NARROW, depth=depth, depth_single_blocks=singles)
        inputs = compile_time.flux_71m.make_inputs(config, 16, (4, 4), ())
        run = lambda params: compile_time.flux_71m.forward(  # noqa: E731
            compile_time.MMDiT(config), {"params": params}, inputs
        )
        return len(jax.jit(run).lower(abstract_params(config)[0]).as_text().splitlines())

    assert lines(19, 38) == lines(2, 3)


@pytest.mark.slow
def test_both_sides_of_scones_forward_agree():
    splits = drawing_splits([Reference((2, 2), (1, 3))], 4, (2, 1))
    assert set(scone_forward.compare(SCONE, splits, rounds=1, compiled=False)) == {"uno_jax", "Qwen3, eager"}


@pytest.mark.slow
def test_scone_draws_and_writes_the_same_with_and_without_a_cache():
    splits = drawing_splits([Reference(None, (1, 3))], 4, (2, 1))
    drawn = cached.drawing(SCONE, splits, 2, rounds=1)  # which raises where they differ, as does the next
    written = cached.writing(SCONE, splits[1:2], 3, rounds=1)
    assert min(*drawn, *written) > 0


def test_scones_layers_are_scanned():
    lines = [len(compilation.lowered(layers).as_text().splitlines()) for layers in (4, 28)]
    assert lines[0] == lines[1]


def test_operations_of_scone():
    """The paper's sizes: 151 TFLOP a sample of one reference, 210 a step's three branches."""
    for found, published in ((operations.training_forward(1), 151), (operations.drawing_step(1), 210)):
        counted, least = found
        assert least / 1e12 == pytest.approx(published, abs=0.6)
        assert least <= counted < 1.03 * least


@pytest.mark.slow
def test_a_prompt_in_which_something_is_exchanged_has_another_loss(tmp_path):
    model = load_model(write_model(tmp_path), dtype="float32")
    for kind, exchange in prompt_words.WORDS.values():
        cases = prompt_words.choose_cases(kind, 5, model.config.defaults.resolution)
        wrong = [exchange(case, prompt_words.unlike(case, cases)) for case in cases]
        right = [case.prompt for case in cases]
        assert all(one != other for one, other in zip(right, wrong, strict=True))
        found, again, other = (prompt_words.losses(model, cases, each) for each in (right, right, wrong))
        assert found.shape == (len(prompt_words.TIMES), len(cases))
        assert np.array_equal(found, again) and np.all(found != other)

"""The command for one GPU, rehearsed on the CPU: its quickest parts, and what becomes of parts that fail."""

import importlib.util
import json
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import Bench, memory_figures
from benchmarks.gpu.parts.kernels import kind, named
from benchmarks.gpu.results import DONE, FAILED, Results, summary
from benchmarks.gpu.schedule import LEAST, PARTS, Part, Run, chosen, limit, run_part, run_parts
from benchmarks.gpu.weights import filled, random_networks
from uno_jax.networks.quantize import ProductKernel
from uno_jax.sharding.rules import make_mesh


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, tmp_path / "cache", "tiny", time.monotonic() + 60)


def test_a_rehearsal_writes_its_figures_and_says_what_it_is(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--minutes", "1", "--parts", "device"])
    assert stop.value.code == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert (found["platform"], found["model"]) == ("cpu", "tiny")
    assert found["parts"]["device"]["status"] == DONE
    rates = {row["what"]: row for row in found["parts"]["device"]["rows"]}
    assert rates["bf16 product"]["TFLOP/s"] > 0 and rates["device copy"]["TB/s"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "results.json", "results.md"]
    for text in (capsys.readouterr().out, (tmp_path / "results.md").read_text()):
        assert "REHEARSAL on cpu, model tiny: no time here is a GPU's" in text


def test_a_part_that_overruns_is_killed_and_one_that_fails_says_why(run):
    run_part(run, Part("device", 1), 0.2)
    run_part(run, Part("absent", 1), 30)
    results = Results(run.out)
    killed, failed = results.part("device"), results.part("absent")
    assert killed["status"] == "killed at its limit of 0.2 s" and 0.2 <= killed["seconds"] < 3
    assert failed["status"] == "failed" and "No module named 'benchmarks.gpu.parts.absent'" in failed["error"]
    assert "killed at its limit" in summary(results)


def test_a_part_has_its_share_and_what_was_left_over():
    parts = [Part("one", 10), Part("two", 30)]
    assert limit(parts, 40) == 10
    assert limit(parts, 50) == 20  # what nobody asks for, the next part may use
    assert limit(parts, 20) == 10 and limit(parts[1:], 10) == 10  # the last ones lose what is missing
    assert limit(parts, 8) == 8


def test_without_time_no_part_starts(run):
    run_parts(run._replace(end=time.monotonic() + LEAST / 2), [Part("device", 1)])
    assert Results(run.out).part("device")["status"] == "skipped: no time was left"


def test_parts_are_modules_in_their_order_of_value():
    assert chosen(()) == list(PARTS)
    assert [part.name for part in chosen(("warm", "forward"))] == ["forward", "warm"]
    with pytest.raises(ValueError, match="no part speed; there are device, forward"):
        chosen(("speed",))
    for part in PARTS:
        assert importlib.util.find_spec(f"benchmarks.gpu.parts.{part.name}")


def test_rows_keep_what_was_recorded_before(tmp_path):
    results = Results(tmp_path)
    results.row("forward", "4608 tokens", {"compile_s": 5.0})
    results.row("forward", "4608 tokens", {"ms": 100.0, "goal_ms": 115.0})
    assert Results(tmp_path).part("forward")["rows"] == [
        {"what": "4608 tokens", "compile_s": 5.0, "ms": 100.0, "goal_ms": 115.0}
    ]
    assert results.figure("forward", "4608 tokens", "ms") == 100.0
    assert results.figure("forward", "2560 tokens", "ms") is None
    assert "| forward: 4608 tokens | 100.0 ms | 115.0 |" in summary(results)


def test_a_row_that_fails_costs_no_other(tmp_path):
    bench = Bench("forward", Results(tmp_path), "tiny", time.monotonic() + 60)

    def function(x):
        if x.shape == (3,):
            raise AssertionError("never traced")
        return 2 * x

    calls = {"two": (np.ones(2, np.float32),), "four": (np.ones(4, np.float32),)}
    programs = bench.compiled_together(jax.jit(function), calls)
    with bench.attempt("three"):
        bench.compiled("three", jax.jit(function), np.ones(3, np.float32))
    assert programs["four"](np.ones(4, np.float32)).sum() == 8
    rows = {row["what"]: row for row in bench.results.part("forward")["rows"]}
    assert rows["two"]["compile_s"] > 0 and rows["four"]["needs_GiB"] > 0
    assert rows["three"] == {"what": "three", FAILED: "AssertionError: never traced"}


def test_a_program_without_an_account_of_its_memory_has_no_such_figures():
    assert memory_figures(SimpleNamespace(memory_analysis=lambda: None)) == {}


@pytest.mark.parametrize("base", ["", "fp8-products"])
def test_weights_are_arranged_as_on_a_gpu(base):
    """Quantized before blocks are separated: a separate kernel would stay as it is."""
    bench = Bench("forward", Results(Path()), "tiny", 0.0)
    params = random_networks(bench.model, ["mmdit"], make_mesh(), base)["mmdit"]
    kernel = params["double_blocks"][0]["img"]["mlp_in"]["kernel"]
    assert isinstance(kernel, ProductKernel if base else jax.Array)


def test_weights_are_random_of_the_wanted_size():
    shapes = {"dense": {"kernel": jax.ShapeDtypeStruct((2, 400, 300), np.float32)}}
    shapes["norm"] = {"scale": jax.ShapeDtypeStruct((5000,), jax.numpy.bfloat16)}
    made = filled(shapes, None)
    kernel, scale = np.asarray(made["dense"]["kernel"]), made["norm"]["scale"]
    assert kernel.std() == pytest.approx(1 / 20, rel=0.01) and abs(kernel.mean()) < 1e-3
    assert abs(np.corrcoef(kernel.ravel()[1:], kernel.ravel()[:-1])[0, 1]) < 0.01
    assert scale.dtype == jax.numpy.bfloat16 and float(scale.mean()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_128x128x128", "attention"),
        ("nvjet_sm90_tst_128x256_64x4_1x2_h_bz_coopA_NNT", "matrix products"),
        ("gemm_fusion_dot_12", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", "matrix products"),
        ("MemcpyD2D", "copies and slices"),
        ("loop_dynamic_slice_fusion_3", "copies and slices"),
        ("input_reduce_fusion_2", "reductions"),
        ("loop_add_fusion", "elementwise"),
        ("RngBitGenerator", "other"),
    ],
)
def test_kernels_are_told_apart_by_name(kernel, expected):
    assert kind(named(kernel, None)) == expected

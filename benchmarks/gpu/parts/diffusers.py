"""The same forward by diffusers' FluxTransformer2DModel in PyTorch: eager, then with its blocks compiled.

Random weights in bfloat16, made on the device. No JAX array is made here: JAX must not hold the memory.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.flops import floor
from benchmarks.gpu.bench import H100_PEAK, Bench, since_start
from benchmarks.gpu.cases import ONE, PLAIN, Case, case
from benchmarks.gpu.results import Skipped
from uno_jax.families.uno.positions import position_ids
from uno_jax.networks.mmdit_config import MMDiTConfig

try:
    import torch

    from benchmarks.diffusers_flux import diffusers_transformer
except ImportError as error:
    raise Skipped(f"it needs PyTorch and diffusers ({error})") from None

COMPILED_SECONDS = 50  # what compiling the two kinds of blocks may take


def run(bench: Bench) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bench.record("process start to diffusers ready", s=since_start())
    module = random_module(bench.model.mmdit, device)
    cases = [case(bench, sizes) for sizes in (PLAIN, ONE)]
    with torch.inference_mode():
        for each in cases:
            with bench.attempt(f"{each}, eager"):
                measure(bench, module, each, device, "eager")
        if bench.left() < COMPILED_SECONDS:
            bench.record("torch.compile", note=f"left out: {bench.left():.0f} s left")
            return
        module.compile_repeated_blocks(fullgraph=True)
        for each in cases:
            measure(bench, module, each, device, "compiled blocks")


def random_module(config: MMDiTConfig, device: str) -> Any:
    """diffusers' module of the same sizes, filled on the device."""
    torch.manual_seed(0)
    with torch.device("meta"):
        module: Any = diffusers_transformer(config)  # diffusers types little
    module = module.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return module


def arguments(config: MMDiTConfig, of: Case, device: str) -> dict[str, Any]:
    """Random inputs; references are further image tokens."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.bfloat16, device=device)

    ids = torch.from_numpy(position_ids(of.text, of.target, of.ref_sizes)).to(device)
    return {
        "hidden_states": normal(1, of.tokens - of.text, config.in_channels),
        "encoder_hidden_states": normal(1, of.text, config.context_in_dim),
        "pooled_projections": normal(1, config.vec_in_dim),
        "timestep": torch.full((1,), 0.5, dtype=torch.bfloat16, device=device),
        "guidance": torch.full((1,), 4.0, dtype=torch.bfloat16, device=device),
        "img_ids": ids[of.text :],
        "txt_ids": ids[: of.text],
        "return_dict": False,
    }


def measure(bench: Bench, module: Any, of: Case, device: str, how: str) -> None:
    """Seconds of the first call, median milliseconds of later ones, and how many times ours is as fast."""
    given, what = arguments(bench.model.mmdit, of, device), f"{of}, {how}"
    start = time.perf_counter()
    waited(lambda: module(**given))
    bench.record(what, first_s=time.perf_counter() - start)
    ms = median_ms(bench, lambda: module(**given))
    rate = floor(bench.model.mmdit, of.tokens) / ms / 1e9
    ours = bench.results.figure("forward", str(of), "ms")
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    figures = {"TFLOP/s": rate, "MFU_%": 100 * rate / H100_PEAK, "peak_GiB": peak}
    bench.record(what, ms=ms, uno_jax_is_faster=ms / ours if ours else None, **figures)


def median_ms(bench: Bench, call: Callable[[], object], rounds: int = 12) -> float:
    """As `Bench.ms`, which waits for JAX's arrays."""
    waited(call)
    taken: list[float] = []
    while len(taken) < rounds and (len(taken) < 2 or bench.left() > 2):
        start = time.perf_counter()
        waited(call)
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def waited(call: Callable[[], object]) -> None:
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()

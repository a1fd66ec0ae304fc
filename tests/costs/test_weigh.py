"""Programs whose operations and bytes are counted by hand, in XLA's text and as compiled here."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from uno_jax.costs.chips import REACHED, Chip
from uno_jax.costs.weigh import LAUNCH, detail_lines, place, rows_by, weigh

CHIP = Chip("a chip", 1.0, peak=100.0, bandwidth=1000.0, link=50.0)
GPU = (Path(__file__).parent / "program.hlo").read_text()  # written by hand, as XLA writes for a GPU


@pytest.fixture(scope="module")
def kernels():
    return {kernel.name: kernel for kernel in weigh(GPU, CHIP, chips=4)}


def test_a_product_in_a_loop_counts_as_often_as_it_runs(kernels):
    product = kernels["y"]
    assert (product.kind, product.times) == ("products", 19)
    assert product.flops == 2 * 16 * 64 * 32
    assert product.bytes == 2 * (16 * 64 + 64 * 32 + 16 * 32)  # without the library's workspace


def test_a_slice_reads_what_it_cuts_and_an_update_writes_what_it_puts(kernels):
    assert (kernels["mine"].kind, kernels["mine"].bytes) == ("copies", 2 * (2 * 64 * 32) + 4)
    assert kernels["done"].bytes == 4 * (128 + 128) + 4  # the row, its place, and the row once more


def test_attention_counts_two_products_for_each_head(kernels):
    assert (kernels["out"].kind, kernels["out"].flops) == ("attention", 4 * 2 * 4 * 10 * 6 * 8)


def test_a_kernel_takes_the_longer_of_its_work_and_its_bytes(kernels):
    twice = kernels["twice"]
    assert (twice.kind, twice.flops, twice.bytes) == ("other kernels", 0, 2 * 4 * 8 * 128)
    assert twice.seconds == pytest.approx(LAUNCH + twice.bytes / (1e12 * REACHED.bandwidth))


def test_a_collective_takes_the_link(kernels):
    size = 4 * 8 * 128
    assert kernels["sent"].kind == "all-reduce"
    assert kernels["sent"].seconds == pytest.approx(LAUNCH + 2 * 3 / 4 * size / 50e9)


def test_rows_add_up(kernels):
    everything = list(kernels.values())
    for attribute in ("kind", "where"):
        rows = rows_by(everything, attribute)
        assert sum(row.kernels for row in rows) == 2 * 19 + 4
        assert sum(row.flops for row in rows) == sum(kernel.flops * kernel.times for kernel in everything)
    assert {row.name for row in rows_by(everything, "where")} >= {"Net", "Net/double_blocks"}
    assert detail_lines(everything)[-1].startswith("products, attention and convolutions alone: ")


@pytest.mark.parametrize(
    ("name", "where"),
    [
        (
            "jit(f)/while/body/eval_jaxpr/MMDiT/while/body/single_blocks/qkv/dot_general",
            "MMDiT/single_blocks",
        ),
        ("jit(f)/MMDiT/MMDiT._run/DoubleStreamBlock/img.finish/proj/dot_general", "MMDiT/DoubleStreamBlock"),
        ("jit(f)/transpose(jvp(MMDiT))/MMDiT._run/dot_general", "MMDiT (backward)"),
        ("jit(f)/T5Encoder/BNTS,BSNH->BTNH/transpose", "T5Encoder"),
        ("jit(f)/add", "outside the networks"),
    ],
)
def test_places_are_modules(name, where):
    assert place(name) == where


def test_a_program_compiled_here_is_weighed():
    def looped(x, w):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((256, 128), (5, 128, 128)))
    rows = {
        row.name: row
        for row in rows_by(weigh(jax.jit(looped).lower(*shapes).compile().as_text(), CHIP), "kind")
    }
    assert rows["products"].flops == 5 * 2 * 256 * 128 * 128


def test_a_slice_after_elementwise_operations_reads_what_it_cuts():
    text = """
%fused (p0: bf16[64,96], p1: f32[64]) -> f32[64,32] {
  %p0 = bf16[64,96]{1,0} parameter(0)
  %wide = f32[64,96]{1,0} convert(%p0)
  %p1 = f32[64]{0} parameter(1)
  %rows = f32[64,96]{1,0} broadcast(%p1), dimensions={0}
  %scaled = f32[64,96]{1,0} multiply(%wide, %rows)
  ROOT %cut = f32[64,32]{1,0} slice(%scaled), slice={[0:64], [32:64]}
}

ENTRY %main (x: bf16[64,96], rows: f32[64]) -> f32[64,32] {
  %x = bf16[64,96]{1,0} parameter(0)
  %s = f32[64]{0} parameter(1)
  ROOT %y = f32[64,32]{1,0} fusion(%x, %s), kind=kLoop, calls=%fused
}
"""
    (kernel,) = weigh(text, CHIP)
    assert kernel.bytes == 2 * 64 * 32 + 4 * 64 + 4 * 64 * 32


def test_an_unknown_chip_weighs_nothing():
    assert weigh(GPU, Chip("unknown", None, None)) == []

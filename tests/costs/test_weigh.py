"""Programs whose operations and bytes are counted by hand, in XLA's text and as compiled here."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from uno_jax.costs.chips import Chip
from uno_jax.costs.kernels import Work
from uno_jax.costs.weigh import LAUNCH, detail_lines, kernel_seconds, place, rows_by, weigh

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


def test_attention_has_a_rate_of_its_own():
    work = Work(flops=1e9, bytes=0, dtype="bf16")
    attention, product = (kernel_seconds(kind, work, CHIP) - LAUNCH for kind in ("attention", "products"))
    assert attention / product == pytest.approx(CHIP.reached.products / CHIP.reached.attention)


@pytest.mark.parametrize("keys", ["7,96,128", "96,128"], ids=["a head each", "one for all heads"])
def test_attention_on_a_tpu_counts_two_products_for_each_head(keys):
    layout = "{2,1,0}" if keys.startswith("7") else "{1,0}"
    text = f"""
ENTRY %main (m: s8[1,9,29], q: bf16[7,64,128], k: bf16[{keys}], v: bf16[{keys}]) -> bf16[7,64,128] {{
  %m = s8[1,9,29]{{2,1,0}} parameter(0)
  %q = bf16[7,64,128]{{2,1,0}} parameter(1)
  %k = bf16[{keys}]{layout} parameter(2)
  %v = bf16[{keys}]{layout} parameter(3)
  ROOT %splash.1 = bf16[7,64,128]{{2,1,0}} custom-call(%m, %q, %k, %v), custom_call_target="tpu_custom_call"
}}
"""
    (kernel,) = weigh(text, CHIP)
    assert (kernel.kind, kernel.flops) == ("attention", 4 * 7 * 64 * 96 * 128)


def test_a_kernel_takes_the_longer_of_its_work_and_its_bytes(kernels):
    twice = kernels["twice"]
    assert (twice.kind, twice.flops, twice.bytes) == ("other kernels", 0, 2 * 4 * 8 * 128)
    assert twice.seconds == pytest.approx(LAUNCH + twice.bytes / (1e12 * CHIP.reached.bandwidth))


def test_a_collective_takes_the_link(kernels):
    size = 4 * 8 * 128
    assert kernels["sent"].kind == "all-reduce"
    assert kernels["sent"].seconds == pytest.approx(LAUNCH + 2 * 3 / 4 * size / 50e9)


@pytest.mark.parametrize(
    ("groups", "chips"),
    [
        ("{{0,1},{2,3}}", 2),
        ("[1,4]<=[4]", 4),
        ("mesh['data'=2,'tensor'=4] {'tensor'}", 4),
        ("mesh['axis_0'=8] {'axis_0':(1)2}", 2),
    ],
)
def test_a_collective_passes_data_within_its_group(groups, chips):
    text = GPU.replace("replica_groups={{0,1,2,3}}", f"replica_groups={groups}, use_global_device_ids=true")
    sent = next(kernel for kernel in weigh(text, CHIP, chips=8) if kernel.name == "sent")
    assert sent.seconds == pytest.approx(LAUNCH + 2 * (chips - 1) / chips * 4 * 8 * 128 / 50e9)


def test_a_collective_begun_for_several_arrays_counts_all_of_them():
    line = "  %sent = f32[8,128]{1,0} all-reduce(%big), replica_groups={{0,1,2,3}}"
    assert line in GPU
    begun = (
        "  %sent = ((f32[8,128]{1,0}, f32[1,128]{1,0}), (f32[32,128]{1,0}, f32[4,128]{1,0})) "
        "all-gather-start(%big, %row), replica_groups={{0,1,2,3}}, dimensions={0}"
    )
    sent = next(kernel for kernel in weigh(GPU.replace(line, begun), CHIP) if kernel.name == "sent")
    assert (sent.kind, sent.bytes) == ("all-gather", 4 * 128 * (32 + 4))
    table = detail_lines([sent])
    assert any(line.startswith("all-gather, outside the networks") for line in table)


def test_a_slice_begun_before_it_is_needed_writes_its_result_alone():
    begun = (
        "%mine = ((bf16[19,64,32]{2,1,0}, s32[]), bf16[1,64,32]{2,1,0}, u32[]) "
        "fusion-start(%w, %i), kind=kLoop"
    )
    text = GPU.replace("%mine = bf16[1,64,32]{2,1,0} fusion(%w, %i), kind=kLoop", begun)
    mine = next(kernel for kernel in weigh(text, CHIP) if kernel.name == "mine")
    assert text != GPU and (mine.kind, mine.bytes) == ("copies", 2 * (2 * 64 * 32) + 4)


def test_a_slice_in_a_fusion_within_a_fusion_reads_what_it_cuts():
    outer = (
        "%fused_outer (o0: bf16[19,64,32], o1: s32[]) -> bf16[1,64,32] {\n"
        "  %o0 = bf16[19,64,32]{2,1,0} parameter(0)\n  %o1 = s32[] parameter(1)\n"
        "  ROOT %own = bf16[1,64,32]{2,1,0} fusion(%o0, %o1), kind=kLoop, calls=%fused_cut\n}\n\n%body ("
    )
    text = GPU.replace("%body (", outer, 1).replace(
        "%i), kind=kLoop, calls=%fused_cut", "%i), kind=kLoop, calls=%fused_outer"
    )
    mine = next(kernel for kernel in weigh(text, CHIP) if kernel.name == "mine")
    assert (mine.kind, mine.bytes) == ("copies", 2 * (2 * 64 * 32) + 4)


def test_a_product_with_its_slice_writes_no_workspace_and_lies_where_the_product_does():
    name = 'metadata={op_name="jit(f)/T5Encoder/while/body/blocks/v/dot_general"}'
    text = f"""
%sliced (p: f32[2,96,64], n: s32[], x: f32[32,96]) -> (f32[32,64], s8[33554432]) {{
  %p = f32[2,96,64]{{2,1,0}} parameter(0)
  %n = s32[] parameter(1)
  %x = f32[32,96]{{1,0}} parameter(2)
  %zero = s32[] constant(0)
  %mine = f32[1,96,64]{{2,1,0}} dynamic-slice(%p, %n, %zero, %zero), dynamic_slice_sizes={{1,96,64}}
  %kernel = f32[96,64]{{1,0}} bitcast(%mine)
  ROOT %y = (f32[32,64]{{1,0}}, s8[33554432]{{0}}) custom-call(%x, %kernel), custom_call_target="__cublas$lt$matmul", {name}, backend_config={{"gemm_backend_config":{{"dot_dimension_numbers":{{"lhs_contracting_dimensions":["1"]}}}}}}
}}

ENTRY %main (p: f32[2,96,64], n: s32[], x: f32[32,96]) -> f32[32,64] {{
  %p.1 = f32[2,96,64]{{2,1,0}} parameter(0)
  %n.1 = s32[] parameter(1)
  %x.1 = f32[32,96]{{1,0}} parameter(2)
  %both = (f32[32,64]{{1,0}}, s8[33554432]{{0}}) fusion(%p.1, %n.1, %x.1), kind=kCustom, calls=%sliced
  ROOT %out = f32[32,64]{{1,0}} get-tuple-element(%both), index=0
}}
"""  # noqa: E501
    (kernel,) = weigh(text, CHIP)
    assert (kernel.kind, kernel.where, kernel.flops) == ("products", "T5Encoder", 2 * 32 * 96 * 64)
    assert kernel.bytes == 4 * (96 * 64 + 1 + 32 * 96 + 32 * 64)


def test_a_loop_ends_where_its_condition_compares():
    text = GPU.replace(', backend_config={"known_trip_count":{"n":"19"}}', "").replace(
        "  ROOT %go = pred[] constant(true)",
        "  %at.1 = s32[] get-tuple-element(%loop.1), index=0\n"
        "  %end = s32[] constant(7)\n"
        "  ROOT %go = pred[] compare(%at.1, %end), direction=LT",
    )
    assert {kernel.name: kernel.times for kernel in weigh(text, CHIP)}["y"] == 7


@pytest.mark.parametrize(
    ("shapes", "window", "kind", "taps"),
    [
        (
            "f32[8,3,64] f32[8,1,32] f32[32,3,64]",
            "size=3 pad=2_2 rhs_reversal=1}, b0f_i0o->b0f",
            "products",
            3,
        ),
        ("f32[8,1,64] f32[8,2,32] f32[32,2,64]", "size=2}, b0f_i0o->b0f", "products", 2),
        ("f32[8,4,64] f32[8,4,32] f32[32,3,64]", "size=3 pad=1_1}, b0f_i0o->b0f", "convolutions", 10),
        ("f32[8,64] f32[8,32] f32[32,64]", "}, bf_io->bf", "products", 1),
    ],
    ids=["three kernels at once", "two axes summed", "a convolution", "one axis"],
)
def test_a_product_of_several_axes_is_no_convolution_on_a_tpu(shapes, window, kind, taps):
    out, x, kernel = shapes.split()
    sizes, labels = window.split("}, ")
    text = (
        f"ENTRY %main (x: {x}, w: {kernel}) -> {out} {{\n  %x = {x}{{}} parameter(0)\n"
        f"  %w = {kernel}{{}} parameter(1)\n  ROOT %y = {out}{{}} convolution(%x, %w), "
        f"{f'window={{{sizes}}}, ' if sizes else ''}dim_labels={labels}\n}}"
    )
    (found,) = weigh(text, CHIP)
    assert (found.kind, found.flops) == (kind, 2 * 8 * 32 * 64 * taps)


def test_a_reduction_over_windows_beside_a_product_is_no_convolution():
    """As XLA for TPUs fuses the masks of CLIP."""
    text = """
%fused (a: f32[8,64], b: f32[64,64]) -> f32[8,64] {
  %a = f32[8,64]{1,0} parameter(0)
  %b = f32[64,64]{1,0} parameter(1)
  %sums = f32[64,64]{1,0} reduce-window(%b, %b), window={size=1x127 pad=0_0x63_63}, to_apply=%add
  ROOT %y = f32[8,64]{1,0} convolution(%a, %sums), dim_labels=bf_io->bf
}

ENTRY %main (x: f32[8,64], w: f32[64,64]) -> f32[8,64] {
  %x = f32[8,64]{1,0} parameter(0)
  %w = f32[64,64]{1,0} parameter(1)
  ROOT %z = f32[8,64]{1,0} fusion(%x, %w), kind=kOutput, calls=%fused
}
"""
    (found,) = weigh(text, CHIP)
    assert (found.kind, found.flops) == ("products", 2 * 8 * 64 * 64)


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


@pytest.mark.parametrize("memory", ["", ":S(1)"], ids=["main", "on chip"])
def test_a_slice_after_elementwise_operations_reads_what_it_cuts(memory):
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
    # A TPU's compiler marks what a fusion computes as lying where its result does.
    text = text.replace("f32[64,96]{1,0}", f"f32[64,96]{{1,0{memory}}}")
    text = text.replace("f32[64,32]{1,0}", f"f32[64,32]{{1,0{memory}}}")
    (kernel,) = weigh(text, CHIP)
    assert kernel.bytes == 2 * 64 * 32 + 4 * 64 + (0 if memory else 4 * 64 * 32)


def test_an_unknown_chip_weighs_nothing():
    assert weigh(GPU, Chip("unknown", None, None)) == []

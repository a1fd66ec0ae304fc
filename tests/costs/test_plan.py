"""Plans of the tiny preset for a TPU topology and for the local device, and errors of plans."""

import dataclasses
import importlib.util
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from uno_jax import sample, train
from uno_jax.costs import devices, gpus
from uno_jax.costs.flops import count_flops
from uno_jax.costs.program import out_of_memory
from uno_jax.families.model import Model
from uno_jax.families.uno.conditioning import encode
from uno_jax.sampling.plan import spread
from uno_jax.sharding.rules import make_mesh
from uno_jax.training.config import MeshConfig, TrainConfig
from uno_jax.training.losses import make_loss
from uno_jax.training.plan import abstract_batch, abstract_state, smaller_settings
from uno_jax.training.recipes import load_recipe
from uno_jax.training.state import model_config
from uno_jax.training.step import StepMethod, train_step

RECIPE = """
from uno_jax.training.config import DataConfig, LoraConfig, TrainConfig

def get_config():
    data = DataConfig(path="unread.json", resolution=32, ref_resolution=32)
    return TrainConfig(preset="tiny", batch_size=4, lora=LoraConfig(rank=4), data=data, remat="none")
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.py"
    path.write_text(RECIPE)
    return str(path)


def plan(capsys, *argv):
    train.main([str(part) for part in argv])
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_tpu_step_is_compiled_without_a_tpu(capsys, recipe):
    pytest.importorskip("libtpu", reason="compiling for a TPU takes libtpu (extra: plan)")
    out = plan(capsys, "--config", recipe, "--plan", "v5e:2x2")
    assert "v5e:2x2: 4 v5e (15.75 GiB, 197 TFLOP/s)" in out
    assert "mesh data 1, fsdp 4, tensor 1" in out and "of 15.75: fits" in out and "at 50 % of it" in out


@pytest.mark.slow
def test_a_local_plan_lists_the_run(capsys, recipe):
    vae = ["--objective", "autoencoder", "--trainable", "vae/decoder/.*", "--batch-size", "2"]
    out = plan(capsys, "--config", recipe, "--plan", "local", *vae, "--plan-refs", "2")
    assert "local: 1 cpu" in out and "batch 2" in out and "2 references of 32" in out
    assert "trained and" in out and "fits" in out and "peak of cpu is not known" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--plan", "v9:2x2"], "expected local, a TPU (v5e, v5p, v6e)"),
        (["--plan", "v5p"], "such as v5p:2x2x1"),
        (["--plan", "rtx3050"], "or a GPU (a100-40, a100-80, a6000,"),
        (["--plan", "h100:none"], "expected 1 to 1024 GPUs, such as h100:8"),
        (["--plan", "local", "--mesh.data", "3"], "does not fit 1 device"),
        (["--plan", "local", "--steps", "0"], "steps must be at least 1"),
        (["--plan", "local", "--plan-refs", "-1"], "--plan-refs must be at least 0"),
    ],
)
def test_impossible_plans_are_errors(capsys, recipe, argv, message):
    with pytest.raises(SystemExit) as stop:
        train.main(["--config", recipe, *argv])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_compiler_is_told(monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(devices.PlanError, match="pip install libtpu"):
        devices.find_devices("v5e:2x2")


def test_a_plan_says_which_chips_share_a_picture():
    axes = {"data": 1, "fsdp": 1, "tensor": 4, "sequence": 2}
    assert spread(axes) == "a picture spread over all of them (tensor 4, sequence 2)"
    shared = (
        "a picture spread over 4 of them (tensor 4, sequence 1); the 2 groups of so many share the weights"
    )
    assert spread(axes | {"fsdp": 2, "sequence": 1}) == shared


def test_the_nearest_settings_come_first():
    config = TrainConfig(remat="selective", batch_size=16, mesh=MeshConfig(data=2, fsdp=1, tensor=2))
    found = [(c.remat, c.mesh.fsdp, c.mesh.tensor, c.batch_size) for c in smaller_settings(config, 4)]
    assert found == [("full", 1, 2, 16), ("full", 4, 1, 16), ("full", 4, 1, 8), ("full", 4, 1, 4)]


def test_the_compilers_lack_of_memory_is_read():
    message = "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: … (20.50G) exceeds available HBM (15.75G)."
    assert out_of_memory(message) == int(20.5 * 2**30)


@pytest.mark.slow
def test_sampling_is_planned_stage_by_stage(capsys):
    shape = ["--width", "32", "--height", "32", "--steps", "3", "--batch-size", "1", "--true-cfg", "2"]
    sample.main(["--plan", "local", "--model", "tiny", *shape])
    out = capsys.readouterr().out
    stages = ("text (T5 and CLIP)", "references (1 of 64x64", "all 3 denoising steps", "decode 32x32")
    assert all(stage in out for stage in (*stages, "one denoising step", "all stages"))


def test_products_in_loops_are_counted_as_often_as_they_run():
    def looped(x, w):
        return jax.lax.scan(lambda x, _: (x @ w, None), x, length=5)[0]

    x, w = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 3), (3, 3)))
    assert count_flops(looped, x, w) == 5 * 2 * 2 * 3 * 3


def test_convolutions_are_counted():
    image = jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 2, 5), jnp.float32)
    layout = ("NHWC", "HWIO", "NHWC")

    def convolved(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=layout)

    assert count_flops(convolved, image, kernel) == 2 * 16 * 5 * 9 * 2


@pytest.mark.slow
def test_the_full_size_step_does_no_needless_work():
    """TFLOP a sample of 2560 tokens: forward 37.6 (12.91 GFLOP a token, attention 4 T^2 3072 in 57 blocks),
    back through frozen weights 33.1 and attention 11.5 (2.5 forwards, its scores are computed again), three
    times the LoRA's 4.0 and nothing else.
    """
    recipe = load_recipe("configs/uno_stage1.py")
    config = dataclasses.replace(recipe, weights="", batch_size=1, remat="none")
    model, mesh = model_config(config), make_mesh(devices=jax.devices()[:1])
    state, frozen, optimizer = abstract_state(config, model, mesh)
    batch = abstract_batch(config, model, mesh, refs=1)
    key = jax.eval_shape(lambda: jax.random.key(0))
    step = partial(train_step, StepMethod(make_loss(config, model), optimizer, 0.0, 1))
    model_of = partial(Model, model, dtype=config.dtype)
    encoders = count_flops(lambda *x: encode(model_of(x[0]), *x[1:]), frozen, batch, key)
    assert count_flops(step, state, frozen, batch, key) - encoders == pytest.approx(94.0e12, rel=0.01)


@pytest.mark.slow
def test_a_step_is_compiled_for_gpus_without_one(capsys, recipe):
    plugins = [importlib.util.find_spec(name) for name in ("jax_cuda12_plugin", "jax_cuda13_plugin")]
    if not any(plugins):
        pytest.skip("compiling for a GPU takes XLA's plugin for them (extra: plan-gpu)")
    out = plan(capsys, "--config", recipe, "--plan", "h100:2", "--detail")
    assert "h100:2: 2 NVIDIA H100" in out and "compiled for CUDA" in out and "s by its kernels" in out
    assert "all-gather" in out and "products, attention and convolutions alone" in out


@pytest.mark.parametrize(
    ("kind", "chip"),
    [
        *((card.name, card.chip) for card in gpus.CARDS.values()),
        ("NVIDIA H100 PCIe", ("NVIDIA H100 PCIe", None, 989)),
        ("NVIDIA A100-PCIE-40GB", ("NVIDIA A100-PCIE-40GB", None, 312)),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", gpus.CARDS["rtxpro6000"].chip),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None)),
        ("NVIDIA L40", ("NVIDIA L40", None, None)),
    ],
)
def test_a_card_is_found_by_its_own_name(kind, chip):
    assert devices.gpu_named(kind) == devices.Chip(*chip)


def test_every_card_has_limits_and_a_description(monkeypatch):
    monkeypatch.setattr(gpus, "installed_versions", lambda: {"cudnn": (9, 1, 0), "cuda": (13, 0, 0)})
    for name, card in gpus.CARDS.items():
        assert 15 < card.chip.memory < 192 and 8 <= card.capability[0] <= 12, name
        assert f"core_count: {card.cores} " in gpus.target_config(card)

"""The demo: a FLUX-shaped model learns six (reference, prompt, target) by heart, after demo_vae.py.

python -m uno_jax.train --config configs/demo.py
python -m uno_jax.sample --jobs out/demo/pairs/pairs.json --model out/demo/run/model --width 64 --height 64 \\
    --ref-size 64 --guidance 1 --out out/demo/samples
"""

from uno_jax.recipe import DataConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    return TrainConfig(
        workdir="out/demo/run",
        trainable=("mmdit/.*", "t5/blocks/.*", "clip/blocks/.*"),
        preset="small",
        weights="out/demo/vae/model",
        data=DataConfig(path="out/demo/pairs/pairs.json", resolution=64, ref_resolution=64, text_dropout=0.0),
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=20, decay_to=0.05, weight_decay=0.0),
        batch_size=6,
        steps=600,
        dtype="float32",
        remat="none",
    )

"""Recordings of Scone: golden.npz, config.json and model.safetensors of a small random model, with what the
reference computed of packed samples, drawings, texts, gradients and steps of AdamW.

Two of the reference's quirks are not copied: it gives up image guidance where there is none by text
(`gen_img_only`), and its context without text is the whole one where a list ends in an image (`text_first`).
"""

import re

from .recording import Kind
from .scone_drawing import OUTPUTS as DRAWING
from .scone_folder import load_golden
from .scone_forward import OUTPUTS as FORWARD
from .scone_packing import OUTPUTS as PACKING
from .scone_runs import OUTPUTS as RUNS
from .scone_texts import OUTPUTS as TEXTS
from .scone_training import OUTPUTS as TRAINING

INPUTS = re.compile(
    r"(in|drop_in|xcheck_in)/(text_ids_sample_\d+|vit_image_sample_\d+_ref_\d+|padded_latent|noise"
    r"|packed_timesteps)|meta/threshold(_q25)?|probe/t"
    r"|inf/(init_noise|text_ids|image_shape|ref_latent_\d+|vit_image_\d+|gen_inputs/packed_init_noises)"
    r"|inf2/text_ids/\w+"
    r"|mix_in/(padded_latent|noise|packed_timesteps|packed_vit_tokens|patchified_\w+)"
    r"|grad_meta/(param_names|representative)|opt/(noise|packed_timesteps|\w+/(lr|threshold))"
)
LEFT_OUT = {
    "options that no model uses": r"probe/(bf16_\w+|get_flattened_position_ids_interpolate_\w+)",
}
SCONE = Kind(
    load_golden, PACKING | FORWARD | TEXTS | DRAWING | RUNS | TRAINING, INPUTS, LEFT_OUT, 2e-5, exact=True
)

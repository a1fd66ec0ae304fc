"""transformers' Qwen3 with the weights of one of a decoder's experts."""

from typing import Any

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from uno_jax.networks.mot import MoTConfig
from uno_jax.support.trees import Params

NORMS = {"input_norm": "input_layernorm", "post_norm": "post_attention_layernorm"}


def understanding_expert(config: MoTConfig, params: Params) -> Qwen3ForCausalLM:
    """A module, attending by SDPA, that computes what the understanding expert does."""
    sizes = Qwen3Config(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        attention_bias=True,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    module = Qwen3ForCausalLM(sizes).eval()
    module.load_state_dict({name: torch.tensor(np.array(x)) for name, x in _state(config, params).items()})
    return module


def _state(config: MoTConfig, params: Params) -> dict[str, Any]:
    state = {
        "model.embed_tokens.weight": params["embed_tokens"],
        "lm_head.weight": params["lm_head"]["kernel"].T,
        "model.norm.weight": params["norm_und"]["scale"],
    }
    for layer in range(config.num_layers):
        stem = f"model.layers.{layer}"
        for name, tree in params["blocks"]["und"].items():
            if name == "mlp":
                state |= {f"{stem}.mlp.{part}.weight": tree[part]["kernel"][layer].T for part in tree}
            elif "scale" in tree:
                place = f"{stem}.{NORMS[name]}" if name in NORMS else f"{stem}.self_attn.{name}"
                state[f"{place}.weight"] = tree["scale"][layer]
            else:
                state[f"{stem}.self_attn.{name}.weight"] = tree["kernel"][layer].T
                bias = tree["bias"][layer] if "bias" in tree else np.zeros(config.hidden_size)
                state[f"{stem}.self_attn.{name}.bias"] = bias
    return state

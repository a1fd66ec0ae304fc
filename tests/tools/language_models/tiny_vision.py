"""A vision-language model with random weights."""

from pathlib import Path

import torch
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.tools.language_models.tiny_language import byte_tokenizer, tiny_llama
from tools.language_models.config import ModelConfig

CHAT_WITH_PICTURES = (
    "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}"
    "assistant: "
)


def write_llava(folder: Path) -> None:
    tokenizer = byte_tokenizer(pad_token="<pad>", extra_special_tokens=["<image>"])
    text = tiny_llama(
        len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=16)
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=image_token, vision_feature_layer=-1
    )
    LlavaForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_WITH_PICTURES,
    ).save_pretrained(folder)


def llava_config(llava, **changes) -> ModelConfig:
    return ModelConfig(
        **{"backend": "transformers", "model": str(llava), "max_tokens": 4, "temperature": 0.0, **changes}
    )

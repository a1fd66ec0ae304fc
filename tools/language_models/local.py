"""A language model or vision-language model of transformers in this process."""

from collections.abc import Sequence
from typing import Any

from ..common.devices import choose_device, loading
from ..common.errors import ToolError
from ..common.hashed_choice import hash_number
from ..common.manifest import Failed
from .config import ModelConfig
from .conversation import Conversation, Message


class LocalModel:
    """Weights and processor; a call answers one batch, sampled with a seed that depends on its texts."""

    def __init__(self, config: ModelConfig, device: str, setting: str, vision: bool):
        self.config, self.vision = config, vision
        import transformers as t

        self.device = choose_device(device)
        reader, network = (
            (t.AutoProcessor, t.AutoModelForImageTextToText)
            if vision
            else (t.AutoTokenizer, t.AutoModelForCausalLM)
        )
        with loading(f"{setting}.model", config.model):
            self.processor: Any = reader.from_pretrained(config.model)
            loaded: Any = network.from_pretrained(config.model, dtype="auto")
            self.model = loaded.to(self.device).eval()
        self.tokenizer = self.processor.tokenizer if vision else self.processor
        if not getattr(self.processor, "chat_template", None):
            raise ToolError(f"{setting}.model {config.model} has no chat template: use an instruct model")
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
        self.window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 2**31

    def __call__(self, conversations: Sequence[Conversation]) -> list[str | Failed]:
        import torch

        batch = self.tokens(conversations)
        # Pixels are float32 whatever the weights are.
        batch = batch.to(self.device, dtype=self.model.dtype) if self.vision else batch.to(self.device)
        lengths = batch["attention_mask"].sum(1).tolist()
        if max(lengths) >= self.window:
            return self.without_long(conversations, lengths)
        texts = [message.text for conversation in conversations for message in conversation]
        torch.manual_seed(hash_number("answers", texts))
        sampling = {"do_sample": True, "temperature": self.config.temperature}
        start = batch["input_ids"].shape[1]
        with torch.inference_mode():
            tokens = self.model.generate(
                **batch,
                **(sampling if self.config.temperature else {"do_sample": False}),
                max_new_tokens=min(self.config.max_tokens, self.window - start),
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return list(self.tokenizer.batch_decode(tokens[:, start:], skip_special_tokens=True))

    def tokens(self, conversations: Sequence[Conversation]) -> Any:
        """Returns a left-padded batch."""
        padding = {"processor_kwargs": {"padding": True}} if self.vision else {"padding": True}
        return self.processor.apply_chat_template(
            [[self.chat_message(message) for message in conversation] for conversation in conversations],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            **padding,
        )

    def chat_message(self, message: Message) -> dict[str, Any]:
        """A message in the format of chat templates."""
        if not self.vision:
            return {"role": message.role, "content": message.text}
        shown = [{"type": "image", "image": picture} for picture in message.pictures]
        return {"role": message.role, "content": [*shown, {"type": "text", "text": message.text}]}

    def without_long(self, conversations: Sequence[Conversation], lengths: list[int]) -> list[str | Failed]:
        """Fails conversations that leave no room for an answer, and answers the others."""
        fitting = [c for c, length in zip(conversations, lengths, strict=True) if length < self.window]
        answers = iter(self(fitting) if fitting else [])
        return [
            next(answers)
            if length < self.window
            else Failed(f"a conversation of {length} tokens fills the model's window of {self.window}")
            for length in lengths
        ]

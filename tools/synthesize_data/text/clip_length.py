"""The length of a text in CLIP tokens, with the vocabulary that comes with uno_jax."""

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from ..pipeline.packaged import in_uno_jax

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Contractions, runs of letters, single digits, runs of anything but spaces.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@lru_cache(2**16)
def clip_length(text: str) -> int:
    """Number of tokens including start and end, without padding.

    Raises ToolError without the vocabulary.
    """
    return len(clip_tokenizer().encode(text).ids) + 2


@cache
def clip_tokenizer() -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    folder = in_uno_jax("tokenizers", "clip")
    bpe = models.BPE.from_file(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        unk_token="<|endoftext|>",
        end_of_word_suffix="</w>",
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer

"""Prompts -> token ids for the text encoders T5 (t5/) and CLIP (clip/), vocabularies included.

Each vocabulary is read from the package on first use (about 0.1 s) and kept.
"""

from collections.abc import Sequence
from functools import cache
from gzip import decompress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

FOLDER = Path(__file__).resolve().parent
T5_PAD, T5_EOS = 0, 1
CLIP_BOS, CLIP_EOS = 49406, 49407
# OpenAI's CLIP splits into contractions, runs of letters, single digits, and runs of other non-spaces.
CLIP_WORDS = (
    r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
)


class Cut(NamedTuple):
    """A prompt that is too long for an encoder: its number of tokens, of those kept, and the text dropped."""

    tokens: int
    kept: int
    dropped: str


def t5_tokens(prompts: Sequence[str], length: int = 512) -> Int32[np.ndarray, "b length"]:
    """Token ids for T5 v1.1: the prompt, truncated to fit, then end-of-sequence 1, then padding 0."""
    return _rows(_t5(), prompts, length, start=(), end=T5_EOS, pad=T5_PAD)


def t5_cut(prompt: str, length: int = 512) -> Cut | None:
    """What `t5_tokens` drops of a prompt; None where it drops nothing."""
    encoded, kept = _t5().encode(prompt, add_special_tokens=False), length - 1
    if len(encoded.ids) <= kept:
        return None
    return Cut(len(encoded.ids), kept, prompt[encoded.offsets[kept][0] :])


def clip_tokens(prompts: Sequence[str], length: int = 77) -> Int32[np.ndarray, "b length"]:
    """Token ids for CLIP ViT-L/14: 49406, the lower-case prompt, truncated to fit, then 49407 to the end."""
    return _rows(_clip(), prompts, length, start=(CLIP_BOS,), end=CLIP_EOS, pad=CLIP_EOS)


def _rows(
    tokenizer: Tokenizer, prompts: Sequence[str], length: int, start: tuple[int, ...], end: int, pad: int
) -> Int32[np.ndarray, "b length"]:
    rows = np.full((len(prompts), length), pad, np.int32)
    room = length - len(start) - 1
    for row, encoded in zip(rows, tokenizer.encode_batch(prompts, add_special_tokens=False), strict=True):
        ids = (*start, *encoded.ids[:room], end)
        row[: len(ids)] = ids
    return rows


@cache
def _t5() -> Tokenizer:
    return Tokenizer.from_buffer(decompress((FOLDER / "t5" / "tokenizer.json.gz").read_bytes()))


@cache
def _clip() -> Tokenizer:
    bpe = models.BPE.from_file(
        str(FOLDER / "clip" / "vocab.json"),
        str(FOLDER / "clip" / "merges.txt"),
        unk_token="<|endoftext|>",
        continuing_subword_prefix="",
        end_of_word_suffix="</w>",
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer

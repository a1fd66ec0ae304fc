"""Describes a file or folder in lines of text: network, naming, config, and every tensor."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from uno_jax.families.uno.lora_keys import detect, read_key
from uno_jax.support.errors import CheckpointError
from uno_jax.support.settings import to_dict
from uno_jax.weights.arrays import holds_params, stored_arrays
from uno_jax.weights.checkpoint import read_record
from uno_jax.weights.lora_files import METADATA
from uno_jax.weights.safetensors_file import DTYPES

from .convert import KNOWN, MODELS, find_naming, plan
from .encoders import one_layout
from .scone import AUTOENCODER, TOKENIZER, is_bagel, open_bagel
from .source import Source, open_source
from .tables import mot, vit

Row = tuple[str, str, tuple[int, ...], int]  # name, dtype, shape, bytes


def describe(path: Path) -> Iterator[str]:
    """Yields the lines.

    Raises FileNotFoundError, or CheckpointError for an unknown format.
    """
    path = Path(path)
    ours = [path / model.kind for model in (*KNOWN, vit.MODEL) if holds_params(path / model.kind)]
    pipeline = [path / model.folder for model in MODELS if (path / model.folder / "config.json").is_file()]
    if holds_params(path):
        yield from _native(path)
    elif path.is_dir() and not any(path.glob("*.safetensors")) and (ours or pipeline):
        yield f"{path}: a {'model of uno_jax' if ours else 'diffusers pipeline'}"
        for part in ours or pipeline:
            yield from describe(part)
        if (path / TOKENIZER).is_dir():
            names = sorted(file.name for file in (path / TOKENIZER).iterdir())
            yield f"{path / TOKENIZER}: {', '.join(names)}"
    elif is_bagel(path):
        yield f"{path}: a folder of BAGEL's or Scone's weights"
        yield from _source(open_bagel(path))
        yield from _source(open_source(path / AUTOENCODER))
    else:
        yield from _source(open_source(path))


def _native(path: Path) -> Iterator[str]:
    record = read_record(path)
    yield f"{path}: a {record['kind']} of uno_jax, format {record['format']}"
    yield from (
        f"  {name}: {record[name]}" for name in ("config", "mmdit", "lora", "unope") if name in record
    )
    yield from _table(
        [
            (".".join(name), str(leaf.dtype), leaf.shape, leaf.size * leaf.dtype.itemsize)
            for name, leaf in stored_arrays(path).items()
        ]
    )


def _source(source: Source) -> Iterator[str]:
    keys = source.tensors.keys()
    bagel = find_naming(mot.MODEL, keys) is not None
    source = open_bagel(source.path) if bagel else source
    found = False
    for model in (*KNOWN, *((mot.EYES,) if bagel else ()), vit.MODEL):
        if named := find_naming(model, keys):
            found = True
            naming, prefix = named
            under = f", keys under {prefix}" if prefix else ""
            yield f"{source.path}: a {model.title} in {naming.name} naming{under}"
            try:
                yield f"  config: {to_dict(plan(model, one_layout(source)).config)}"
            except CheckpointError as error:
                yield f"  cannot be converted: {error}"
    if not found:
        yield f"{source.path}: {_lora(source)}"
    unread = sorted({tensor.stored for tensor in source.tensors.values()} - DTYPES.keys())
    if unread:
        yield f"  dtypes that are not read: {', '.join(unread)}"
    yield from _table(
        [
            (
                name,
                tensor.stored if tensor.stored in unread else str(tensor.dtype),
                tensor.shape,
                tensor.nbytes,
            )
            for name, tensor in sorted(source.tensors.items())
        ]
    )


def _lora(source: Source) -> str:
    try:
        naming = detect(source.tensors)
    except CheckpointError:
        return "safetensors of an unknown network"
    downs = [t for name, t in source.tensors.items() if (key := read_key(name)) and key.kind == "down"]
    ranks = {tensor.shape[0] for tensor in downs if tensor.shape}
    convention = source.metadata.get(METADATA, "not recorded")
    return f"a LoRA in {naming} naming, rank {', '.join(map(str, sorted(ranks)))}, UnoPE {convention}"


def _table(rows: list[Row]) -> Iterator[str]:
    width = max((len(row[0]) for row in rows), default=0)
    for name, dtype, shape, _ in rows:
        yield f"  {name:<{width}}  {dtype:<13}  {'x'.join(map(str, shape)) or 'scalar'}"
    kinds: Counter[str] = Counter()
    for _, dtype, _, size in rows:
        kinds[dtype] += size
    parts = ", ".join(f"{size / 1e6:.1f} MB {dtype}" for dtype, size in kinds.most_common())
    yield f"  {len(rows)} tensors, {sum(kinds.values()) / 1e6:.1f} MB ({parts})"

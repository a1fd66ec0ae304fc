"""One network from safetensors of any known naming to a model directory.

Everything is checked before anything is written: which network it is, that every source key is used once and
every parameter is filled, shapes, and the free space on the disk.
"""

import math
import re
import shutil
from collections.abc import Iterable, Set
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from uno_jax.families.uno.lora_keys import WRAPPERS
from uno_jax.networks.registry import NetworkConfig, abstract_params
from uno_jax.support.atomic import refuse_existing
from uno_jax.support.json_files import check_fields, parse_json
from uno_jax.support.settings import from_dict, to_dict
from uno_jax.support.words import counted
from uno_jax.weights.arrays import FOLDER
from uno_jax.weights.checkpoint import atomic_directory, network_record, write_config
from uno_jax.weights.int8 import scale_path
from uno_jax.weights.safetensors_file import DTYPES as STORED

from . import mapping, stream
from .assemble import Layer
from .eight_bits import INT8, chosen_kernels, stored_shapes, to_int8
from .mapping import ConversionError, Entry, Model, Naming
from .source import Source, Tensor, read_json
from .tables import clip, flux, mot, t5, vae

MODELS: tuple[Model, ...] = (flux.MODEL, vae.MODEL, t5.MODEL, clip.MODEL)
"""The networks of a FLUX pipeline."""
KNOWN = (*MODELS, mot.MODEL)
DTYPES = {"bf16": STORED["BF16"], "fp16": STORED["F16"], "fp32": STORED["F32"]}  # the values of --dtype
FP8 = (STORED["F8_E4M3"], STORED["F8_E5M2"])
CONFIG_METADATA = "uno_jax.config"  # in the metadata of exported files
# What programs put a network into, each a prefix of its keys.
OUTER = re.compile(r"((model|diffusion_model|transformer|base_model)\.)*")
SCALE = ".scale_weight"  # ComfyUI's scaled fp8: weight = stored * scale_weight
# Its marker, and the scales of activations, which are not part of the weights.
SCALED_MARKS = r"scaled_fp8|.*\.scale_input"
QUANTISED = re.compile(
    r".*\.(weight_scale|weight_scale_2|comfy_quant|absmax|quant_map|quant_state.*|qweight|SCB)"
)


Config = TypeVar("Config")


class Plan(NamedTuple):
    """What is to be converted: every entry, its tensors by key, and the parameters' shapes and dtypes."""

    model: Model
    config: NetworkConfig
    defaults: Any
    entries: list[Entry]
    tensors: dict[str, Tensor]
    scales: dict[str, Tensor]
    params: stream.Shapes
    ignored: list[str]
    in_8_bits: Set[mapping.Path]

    @property
    def stored(self) -> stream.Shapes:
        """What is written: the parameters, and values and scales for the kernels `in_8_bits`."""
        shapes: stream.Shapes = {}
        for path, leaf in self.params.items():
            shapes |= stored_shapes(path, leaf) if path in self.in_8_bits else {path: leaf}
        return shapes


def find_naming(model: Model, keys: Iterable[str]) -> tuple[Naming, str] | None:
    """Finds the naming and prefix under which a model's keys, without wrappers, are present; None if they are
    not.
    """
    bare = [bare_key(key) for key in keys]
    for naming in model.namings:
        prefixes = {key.removesuffix(naming.marker) for key in bare if key.endswith(naming.marker)}
        for prefix in (*model.prefixes, *sorted(filter(OUTER.fullmatch, prefixes), key=len)):
            if prefix in prefixes:
                return naming, prefix
    return None


def bare_key(key: str) -> str:
    """A key without the names of torch's wrappers."""
    return ".".join(name for name in key.split(".") if name not in WRAPPERS)


def plan(model: Model, source: Source, dtype: str = "keep", config_file: Path | None = None) -> Plan:
    """Checks a source against the model's table.

    Raises ConversionError saying what does not fit.
    """
    naming, prefix = _naming(model, source)
    tensors, scales, ignored = _sort_keys(model, source, prefix)
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    hints = _hints(model, source, config_file)
    try:
        config = _typed(model.infer(shapes, naming, hints))
        defaults = _typed(model.defaults(hints))
        entries = mapping.expand(model, config, naming)
        params = flatten_dict(abstract_params(config)[0])
    except KeyError as error:
        raise ConversionError(
            f"{source.path} is not a complete {model.title}: it lacks {error.args[0]}"
        ) from None
    except ConversionError as error:
        raise ConversionError(f"{source.path}: {error}") from None
    except (ValueError, TypeError, ArithmeticError, IndexError) as error:
        raise ConversionError(
            f"{source.path} does not give a valid {model.title}: {error}; what shapes do not show can be "
            "given in a JSON file, --config FILE"
        ) from None
    wanted = mapping.source_shapes(entries, params)
    _check_shapes(source, model, shapes | _unfolded(entries, tensors), wanted)
    kinds = _out_dtypes(entries, tensors, "keep" if dtype == INT8 else dtype)
    typed = {path: jax.ShapeDtypeStruct(leaf.shape, kinds[path]) for path, leaf in params.items()}
    in_8_bits = chosen_kernels(model.kind, typed) if dtype == INT8 else set()
    return Plan(model, config, defaults, entries, tensors, scales, typed, ignored, in_8_bits)


def _unfolded(entries: list[Entry], tensors: dict[str, Tensor]) -> mapping.Shapes:
    """The shapes that kernels of convolutions would have as linear layers."""
    shapes = {
        entry.source: tensors[entry.source].shape
        for entry in entries
        if entry.flat and entry.source in tensors
    }
    return {key: (shape[0], math.prod(shape[1:])) for key, shape in shapes.items()}


def _typed(config: Config) -> Config:
    """The config, whose values may come from a JSON file.

    Raises ValueError for a wrong type.
    """
    return config if config is None else from_dict(type(config), to_dict(config))


def _hints(model: Model, source: Source, config_file: Path | None) -> dict[str, Any]:
    """What is known beside the shapes: by `config_file`, or the file's own metadata, or config.json."""
    if config_file is not None:
        record = read_json(config_file)
    elif (text := source.metadata.get(CONFIG_METADATA)) is not None:
        name = f"{source.path}: its metadata {CONFIG_METADATA}"
        record = check_fields(parse_json(text, name, ConversionError), {}, name, ConversionError)
    else:
        record = source.config
    try:
        hints = model.hints(record)
    except (ValueError, TypeError, AttributeError) as error:
        place = config_file or source.path.parent / "config.json"
        raise ConversionError(f"{place} does not describe a {model.title}: {error}") from None
    if config_file is not None and not hints:
        raise ConversionError(f"{config_file} does not describe a {model.title}")
    return hints


def _naming(model: Model, source: Source) -> tuple[Naming, str]:
    keys = source.tensors.keys()
    if found := find_naming(model, keys):
        return found
    other = next((each.title for each in KNOWN if find_naming(each, keys)), None)
    looks = (
        f"it looks like a {other}" if other else f"its keys are like {', '.join(sorted(keys)[:3]) or 'none'}"
    )
    raise ConversionError(f"{source.path} is not a {model.title}: {looks}")


def _sort_keys(
    model: Model, source: Source, prefix: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Sorts keys, without prefix, into parameters, their fp8 scales, and ignored ones."""
    tensors, scales, ignored = {}, {}, []
    keys = {full: bare_key(full) for full in source.tensors}
    known = set(keys.values())
    if len(known) < len(keys):
        raise ConversionError(f"{source.path} holds tensors twice, with and without a wrapper's name")
    for full, tensor in source.tensors.items():
        key = keys[full].removeprefix(prefix)
        if key in model.stand_ins and prefix + model.stand_ins[key] not in known:
            key = model.stand_ins[key]
        if not keys[full].startswith(prefix) or re.fullmatch(f"{model.ignored}|{SCALED_MARKS}", key):
            ignored.append(full)  # a file with prefixes holds other networks too
        elif tensor.stored not in STORED:
            raise ConversionError(
                f"{source.path} holds dtype {tensor.stored} ({full}), which is not read: use the file in "
                "bf16, fp16, fp32 or fp8"
            )
        elif QUANTISED.fullmatch(key):
            raise ConversionError(
                f"{source.path} is quantised in an unsupported way ({full}): use the bf16 or fp8 file"
            )
        elif key.endswith(SCALE):
            scales[key.removesuffix(SCALE) + ".weight"] = tensor
        else:
            tensors[key] = tensor
    if stray := sorted(scales.keys() - tensors.keys()):
        raise ConversionError(f"{source.path} has scales without a tensor, for {some(stray)}")
    return tensors, scales, ignored


def _check_shapes(source: Source, model: Model, found: mapping.Shapes, wanted: mapping.Shapes) -> None:
    """Raises ConversionError for wrong keys or shapes. A 1x1 convolution may be stored as a matrix."""
    faults = []
    if missing := sorted(wanted.keys() - found.keys()):
        faults.append(f"{counted(len(missing), 'missing key')} ({some(missing)})")
    if surplus := sorted(found.keys() - wanted.keys()):
        faults.append(f"{counted(len(surplus), 'surplus key')} ({some(surplus)})")
    wrong = [
        f"{key} {found[key]} where {shape} is expected"
        for key, shape in sorted(wanted.items())
        if key in found and found[key] != shape and (*found[key], 1, 1) != shape
    ]
    if wrong:
        faults.append(f"{counted(len(wrong), 'wrong shape')} ({some(wrong)})")
    if faults:
        raise ConversionError(f"{source.path} does not fit a {model.title}: {'; '.join(faults)}")


def some(names: list[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def _out_dtypes(entries: list[Entry], tensors: dict[str, Tensor], dtype: str) -> dict[mapping.Path, np.dtype]:
    """The dtype of every parameter: the requested one, or the widest of its sources, with fp8 as bf16."""
    kinds: dict[mapping.Path, np.dtype] = {}
    for entry in entries:
        stored = tensors[entry.source].dtype
        kind = DTYPES["bf16"] if stored in FP8 else stored
        if not jnp.issubdtype(kind, jnp.floating):
            raise ConversionError(
                f"{entry.source} has dtype {stored}: parameters must be floating-point numbers"
            )
        kinds[entry.target] = np.dtype(jnp.promote_types(kinds.get(entry.target, kind), kind))
    return kinds if dtype == "keep" else dict.fromkeys(kinds, DTYPES[dtype])


def convert(plan: Plan, model_dir: Path, overwrite: bool = False) -> Path:
    """Writes MODEL_DIR/kind slice by slice and returns its path.

    Raises FileExistsError, CheckpointError for a path that is not UTF-8, or ConversionError when the disk is
    too small.
    """
    directory = Path(model_dir) / plan.model.kind
    refuse_existing(directory, overwrite, folder=True)
    slices: dict[tuple[mapping.Path, int | None], list[Entry]] = {}
    for entry in plan.entries:
        slices.setdefault((entry.target, entry.layer), []).append(entry)
    jobs = [stream.Job(*each) for each in slices]
    stacked = {job.target for job in jobs if job.layer is not None} | set(map(scale_path, plan.in_8_bits))
    stored = plan.stored
    require_space(directory, sum(leaf.size * leaf.dtype.itemsize for leaf in stored.values()))

    def make_slice(job: stream.Job) -> stream.Made:
        layer = Layer(slices[job], plan.params[job.target], plan.tensors, plan.scales)
        if job.target not in plan.in_8_bits:
            return {job.target: layer.bands()}
        values = map(stream.whole, to_int8(layer.read()))
        return dict(zip((job.target, scale_path(job.target)), values, strict=True))

    with atomic_directory(directory, overwrite) as partial:
        stream.create(partial / FOLDER, stored, stacked)
        hashes = stream.write_all(partial / FOLDER, stored, jobs, make_slice, plan.model.kind)
        write_config(partial, network_record(plan.config, plan.defaults), hashes)
    return directory


def require_space(place: Path, nbytes: int) -> None:
    """Raises ConversionError when the disk of `place`, which need not exist yet, lacks `nbytes`."""
    existing = next(parent for parent in Path(place).absolute().parents if parent.exists())
    available = shutil.disk_usage(existing).free
    if available < nbytes:
        raise ConversionError(
            f"not enough space for {place}: {nbytes / 1e9:.4g} GB needed, {available / 1e9:.4g} GB free"
        )

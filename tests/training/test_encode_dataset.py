"""Cached encodings: the same loss as from pictures, what an interruption leaves, what is refused, a run."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests.lists import write_json
from tests.tiny_model import MAKE_BATCH, TINY, random_params, write_model
from uno_jax import encodings, train
from uno_jax.data.batches import make_dataset
from uno_jax.data.cached_encodings import read_encodings
from uno_jax.data.config import DataConfig, SourceConfig
from uno_jax.data.entries import DataError
from uno_jax.data.records import read_records
from uno_jax.families.uno.config import LoraConfig
from uno_jax.families.uno.family import FAMILY
from uno_jax.sharding.rules import make_mesh
from uno_jax.support.errors import RecipeError
from uno_jax.training import encode_dataset, run
from uno_jax.training.cached import encoders_of
from uno_jax.training.config import OptimConfig, SamplesConfig, TrainConfig
from uno_jax.training.encode_dataset import encode_lists
from uno_jax.training.losses import make_loss
from uno_jax.training.plan import abstract_batch, abstract_state
from uno_jax.training.state import load_params, make_run_mesh, model_config, networks_of
from uno_jax.weights.checkpoint import read_model, restore_network, save_network

pytestmark = pytest.mark.slow

PER_SHARD = 2


def write_noise(path: Path, seed: int, size: tuple[int, int]) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(path)
    return path.name


def write_pairs(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    """A record for each target size, with two square references."""
    folder.mkdir(exist_ok=True)
    entries = [
        {
            "prompt": f"picture {i} of many",
            "image_tgt_path": write_noise(folder / f"t{i}.png", i, size),
            "image_paths": [write_noise(folder / f"r{i}{j}.png", 100 + 2 * i + j, (32, 32)) for j in (0, 1)],
        }
        for i, size in enumerate(sizes)
    ]
    entries[0]["image_tgt_mask_path"] = write_noise(folder / "mask.png", 99, sizes[0])
    return write_json(folder / "list.json", entries)


def changed(config: TrainConfig, **data) -> TrainConfig:
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **data))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def recipe(weights, tmp_path_factory) -> TrainConfig:
    """Five records of squares, so that one shape is compiled, in shards of two."""
    pairs = write_pairs(tmp_path_factory.mktemp("pairs"), [(64, 64)] * 5)
    return TrainConfig(
        preset="tiny",
        weights=str(weights),
        lora=LoraConfig(rank=4),
        data=DataConfig(path=str(pairs), resolution=64, ref_resolution=32, text_dropout=0.5, threads=1),
        optim=OptimConfig(learning_rate=1e-2),
        batch_size=2,
        steps=2,
        dtype="float32",
        remat="none",
        log_every=1,
        checkpoint_every=1,
    )


@pytest.fixture(scope="module")
def cache(recipe, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cache") / "encodings"
    assert encode_lists(recipe, out, per_shard=PER_SHARD) == {}
    return out


def batches_of(config: TrainConfig, **process):
    source = config.data.encodings
    records = read_encodings(source, config.data.sources) if source else read_records(config.data)
    return make_dataset(records, config.data, config.batch_size, MAKE_BATCH, config.seed, **process)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_loss_from_the_cache_is_that_from_pictures(recipe, cache):
    mesh = make_mesh()
    params = load_params(recipe, TINY, mesh)
    loss = jax.jit(make_loss(recipe, TINY))
    pictures, cached = batches_of(recipe), batches_of(changed(recipe, path="", encodings=str(cache)))
    dropped = 0
    for number in range(4):
        seen, stored = next(pictures), next(cached)
        assert pictures.names == cached.names
        assert stored.target.shape == (2, 8, 8, 32) and [ref.shape[1] for ref in stored.refs] == [4, 4]
        expected = loss(params, seen, jax.random.key(number))
        without = {kind: params[kind] for kind in ("mmdit", "lora")}
        assert loss(without, stored, jax.random.key(number)) == pytest.approx(float(expected), abs=1e-6)
        dropped += (seen.txt[:, 3] == 0).sum()
    assert 0 < dropped < 8


def test_masks_are_kept_with_the_encodings(recipe, cache):
    pictures = batches_of(changed(recipe, mask_weight=3.0))
    cached = batches_of(changed(recipe, path="", encodings=str(cache), mask_weight=3.0))
    masks = [(next(pictures).mask, next(cached).mask) for _ in range(3)]
    assert any(seen.any() for seen, _ in masks)
    for seen, stored in masks:
        np.testing.assert_array_equal(seen, stored)


def test_the_plan_counts_the_networks_that_the_trainer_loads(recipe, cache):
    encoded = changed(recipe, path="", encodings=str(cache))
    jobs = SamplesConfig(every=10, jobs="list.json")
    for config, kinds in (
        (encoded, {"mmdit"}),
        (dataclasses.replace(encoded, samples=jobs), set(FAMILY.networks)),
    ):
        mesh = make_run_mesh(config)
        params, (_, frozen, _) = load_params(config, TINY, mesh), abstract_state(config, TINY, mesh)
        assert params.keys() - {"lora"} == frozen.keys() == set(networks_of(config)) == kinds


def test_a_model_trained_from_encodings_is_whole(recipe, cache, tmp_path):
    whole = dataclasses.replace(
        changed(recipe, path="", encodings=str(cache)),
        workdir=str(tmp_path),
        trainable=("mmdit/.*",),
        steps=1,
    )
    run.train(whole)
    assert read_model(tmp_path / "model").vae == TINY.vae
    stored, given = (
        restore_network(place / "vae")[1] for place in (tmp_path / "model", Path(recipe.weights))
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, stored, given))


@pytest.mark.parametrize("kinds", [("vae",), ("t5", "clip")])
def test_what_is_not_encoded_is_read_from_the_lists(recipe, cache, tmp_path, kinds):
    encode_lists(recipe, tmp_path / "part", kinds, per_shard=5)
    part = next(batches_of(changed(recipe, encodings=str(tmp_path / "part"))))
    whole, pictures = next(batches_of(changed(recipe, encodings=str(cache)))), next(batches_of(recipe))
    images, texts = (whole, pictures) if kinds == ("vae",) else (pictures, whole)
    np.testing.assert_array_equal(part.target, images.target)
    np.testing.assert_array_equal(part.refs[1], images.refs[1])
    np.testing.assert_array_equal(part.txt, texts.txt)
    np.testing.assert_array_equal(part.vec, texts.vec)


def test_an_interrupted_command_goes_on_with_what_is_missing(recipe, cache, tmp_path, monkeypatch):
    out, write = tmp_path / "encodings", encode_dataset.write_shard

    def interrupted(folder, number, *rest):
        if number == 1:
            raise KeyboardInterrupt
        write(folder, number, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encode_dataset, "write_shard", interrupted)
        encode_lists(recipe, out, per_shard=PER_SHARD)
    with pytest.raises(DataError, match="incomplete: it lacks 2 of 4 files, the first is 00001.array"):
        read_encodings(str(out))
    kept = (out / "00000.array_record").stat().st_mtime_ns
    encode_lists(recipe, out, per_shard=PER_SHARD)
    assert contents(out) == contents(cache)
    assert (out / "00000.array_record").stat().st_mtime_ns == kept
    (out / "00001.array_record").unlink()
    for index in (0, 1):
        encode_lists(recipe, out, per_shard=PER_SHARD, process_index=index, process_count=2)
    assert contents(out) == contents(cache)


def test_every_picture_has_its_own_bucket_and_bad_ones_are_left_out(recipe, tmp_path):
    sizes = [(64, 64), (96, 32), (64, 60), (96, 34), (64, 64), (64, 64)]
    pairs = write_pairs(tmp_path / "pairs", sizes)
    (pairs.parent / "r41.png").write_bytes(b"no picture")
    (pairs.parent / "t5.png").write_bytes((pairs.parent / "t5.png").read_bytes()[:-60])
    config = changed(recipe, path=str(pairs), max_bad_share=0.5)
    bad = encode_lists(config, tmp_path / "out", ("vae",))
    names = [f"{pairs} record {number}" for number in (4, 5)]
    assert sorted(bad) == names and "not a picture" in bad[names[0]] and "truncated" in bad[names[1]]
    assert encode_lists(config, tmp_path / "out", ("vae",)) == bad
    batches = batches_of(changed(config, encodings=str(tmp_path / "out")))
    seen = {next(batches).target.shape[1:3]: set(batches.names) for _ in range(2)}
    expected = {(8, 8): (0, 2), (4, 12): (1, 3)}
    assert seen == {shape: {f"{pairs} record {n}" for n in rows} for shape, rows in expected.items()}
    with pytest.raises(DataError, match="2 of 6 records read were bad, more than max_bad_share 0.01"):
        encode_lists(changed(config, max_bad_share=0.01), tmp_path / "strict", ("vae",))


def test_a_source_with_a_size_has_it_from_pictures_and_from_the_cache(recipe, tmp_path):
    """Two to one, which no bucket is: targets of two shapes in one batch, one of another list in its own."""
    wide = SourceConfig(str(write_pairs(tmp_path / "wide", [(64, 32), (64, 30)])), size=(32, 64))
    plain = SourceConfig(str(write_pairs(tmp_path / "plain", [(64, 64)] * 2)))
    config = changed(recipe, path="", sources=(wide, plain))
    encode_lists(config, tmp_path / "out", ("vae",))
    pictures, cached = batches_of(config), batches_of(changed(config, encodings=str(tmp_path / "out")))
    for _ in range(2):
        seen, stored = next(pictures), next(cached)
        expected = (32, 64) if "wide" in pictures.names[0] else (64, 64)
        assert pictures.names == cached.names and seen.target.shape[1:3] == expected
        assert stored.target.shape[1:3] == (expected[0] // 8, expected[1] // 8)


def test_a_run_mixes_encodings_by_its_own_weights(recipe, tmp_path):
    rare, often = (
        SourceConfig(str(write_pairs(tmp_path / name, [(64, 64)] * 2)), weight=weight)
        for name, weight in (("rare", 1e-6), ("often", 1.0))
    )
    out = tmp_path / "out"
    encode_lists(changed(recipe, path="", sources=(rare, often)), out, ("vae",))
    turned = tuple(
        dataclasses.replace(source, weight=other.weight) for source, other in ((rare, often), (often, rare))
    )
    for sources, name in (((), "often"), (turned, "rare")):
        batches = batches_of(changed(recipe, path="", encodings=str(out), sources=sources))
        seen = [batches.names[0] for _ in range(6) if next(batches)]
        assert sum(f"/{name}/" in record for record in seen) >= 5
    with pytest.raises(
        RecipeError, match=r"names the list .*rare.*, 3\.5\), but the encodings .* are of .*often"
    ):
        read_encodings(str(out), (dataclasses.replace(rare, min_score=3.5), often))
    with pytest.raises(RecipeError, match=r"names the list .*often"):
        read_encodings(str(out), (often, often))


def test_a_run_takes_some_of_the_encoded_lists_in_its_own_order(recipe, tmp_path):
    names = "first", "second", "third"
    lists = {name: SourceConfig(str(write_pairs(tmp_path / name, [(64, 64)] * 2))) for name in names}
    encode_lists(
        changed(recipe, path="", sources=tuple(lists.values())), tmp_path / "out", ("vae",), per_shard=3
    )
    whole = read_encodings(str(tmp_path / "out"))
    some = read_encodings(str(tmp_path / "out"), (lists["third"], lists["first"]))
    assert [source.path for source in some.sources] == [lists["third"].path, lists["first"].path]
    assert [record.target for record in some] == [whole[row].target for row in (0, 1, 4, 5)]
    assert [some.name(row) for row in range(4)] == [whole.name(row) for row in (0, 1, 4, 5)]
    for row, same in enumerate((0, 1, 4, 5)):
        assert some.encodings(row).keys() == whole.encodings(same).keys() >= {"target", "ref1", "ref2"}
        np.testing.assert_array_equal(some.encodings(row)["ref2"], whole.encodings(same)["ref2"])
    every = read_encodings(str(tmp_path / "out"), tuple(lists.values()))
    assert every.fingerprint() == whole.fingerprint() != some.fingerprint()


def test_batches_are_resumed_and_shared_out(recipe, cache):
    config = dataclasses.replace(changed(recipe, encodings=str(cache), mask_weight=2.0), batch_size=4)
    whole = batches_of(config)
    shares = [batches_of(config, share=(i, 2)) for i in range(2)]
    next(whole)
    shares[1].set_state(json.loads(json.dumps(whole.get_state())))
    next(shares[0])
    for one, *both in zip(next(whole), *map(next, shares), strict=True):
        if not isinstance(one, tuple):
            np.testing.assert_array_equal(one, np.concatenate(both))
    with pytest.raises(DataError, match="not those of the checkpoint"):
        batches_of(recipe).set_state(whole.get_state())


def test_a_run_from_the_cache_needs_no_encoder(recipe, cache, weights, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mmdit").symlink_to(weights / "mmdit")
    config = changed(recipe, path="", encodings=str(cache))
    places = {"weights": str(tmp_path / "weights"), "workdir": str(tmp_path / "run")}
    state = run.train(dataclasses.replace(config, steps=1, **places))
    assert state.step == 1 and state.skipped == 0
    assert (tmp_path / "run" / "lora" / "config.json").is_file()


FITS = [
    ({"resolution": 128}, {}, "made at resolution 64, this run's is 128"),
    ({"ref_resolution": 64}, {}, "made at ref_resolution 32, this run's is 64"),
    ({}, {"trainable": ("t5/.*",)}, "t5 is trained"),
    ({}, {"trainable": ("lora/.*", "clip/blocks/.*")}, "clip is trained"),
]


@pytest.mark.parametrize(("data", "fields", "message"), FITS, ids=lambda value: str(value)[:40])
def test_encodings_that_do_not_fit_a_run_are_refused(recipe, cache, data, fields, message):
    with pytest.raises(RecipeError, match=message):
        model_config(dataclasses.replace(changed(recipe, encodings=str(cache), **data), **fields))


def test_encodings_of_other_weights_are_refused(recipe, cache, tmp_path):
    config = dataclasses.replace(changed(recipe, encodings=str(cache)), weights=str(tmp_path))
    save_network(tmp_path / "vae", TINY.vae, random_params(TINY.vae, 1))
    assert encoders_of(config).keys() == {"vae", "t5", "clip"}
    save_network(tmp_path / "clip", TINY.clip, random_params(TINY.clip, 9))
    other = dataclasses.replace(TINY.t5, layer_norm_epsilon=1e-5)
    save_network(tmp_path / "t5", other, random_params(TINY.t5, 2))
    with pytest.raises(RecipeError, match=r"another t5 than .*epsilon: 1e-06 -> 1e-05.*another clip than"):
        model_config(config)


def fails(capsys, main, *args: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and "error: " in message and "Traceback" not in message
    return message


@pytest.fixture
def recipe_file(recipe, tmp_path) -> Path:
    names = "from uno_jax.training.config import *\n"
    path = tmp_path / "recipe.py"
    path.write_text(f"{names}def get_config(): return {recipe!r}\n")
    return path


COMMANDS = [
    (("--resolution", "128"), "resolution: 64 -> 128"),
    (("--networks", "vae,t5"), "encoders.clip: "),
    (("--networks", "vae,t6"), "must be some of vae,t5,clip, got vae,t6"),
    (("--networks", ""), "must be some of vae,t5,clip, got none"),
    (("--per-shard", "3"), "per_shard: 2 -> 3"),
    (("--per-shard", "0"), "--per-shard must be at least 1"),
    (("--dtype", "bfloat16"), 'dtype: "float32" -> "bfloat16"'),
    (("--trainable", "t5/.*"), "the recipe trains t5"),
    (("--objective", "autoencoder", "--trainable", "vae/.*"), "learns from pictures"),
    (("--weights", ""), "vae has no weights to encode with"),
    (("--data.path", "nowhere.json"), "no list of records at nowhere.json"),
    (("--out", "gs://bucket/out"), "gs://bucket/out must be a local path"),
    (("--out", "caf\udce9"), "is not UTF-8"),
    (("--batch-size", "0"), "--batch-size must be at least 1"),
]


@pytest.mark.parametrize(("args", "message"), COMMANDS, ids=lambda value: str(value)[:40])
def test_bad_commands(recipe_file, cache, capsys, args, message):
    args = [arg.replace("--resolution", "--data.resolution") for arg in args]
    shard = () if "--per-shard" in args else ("--per-shard", PER_SHARD)
    found = fails(capsys, encodings.main, "--config", recipe_file, "--out", cache, *shard, *args)
    assert message in found


def test_another_list_is_refused(recipe, recipe_file, cache, capsys, tmp_path):
    pairs = write_pairs(tmp_path / "pairs", [(64, 64)] * 4)
    args = ("--config", recipe_file, "--out", cache, "--per-shard", PER_SHARD, "--data.path", pairs)
    assert "records: 5 -> 4" in fails(capsys, encodings.main, *args)


def test_a_list_beside_encodings_must_be_the_encoded_one(recipe, recipe_file, cache, capsys, tmp_path):
    args = ("--config", recipe_file, "--workdir", tmp_path / "run", "--data.encodings", cache)
    found = fails(capsys, train.main, *args, "--data.path", "other.json")
    assert f"give --data.path other.json or --data.encodings {cache}, not both" in found
    other = changed(recipe, encodings=str(cache), path="other.json")
    with pytest.raises(RecipeError, match="names the list .*other.json.*, but the encodings .* are of"):
        run.read_data(other)


def test_directories_that_hold_no_encodings(recipe_file, cache, capsys, tmp_path):
    def told(folder) -> str:
        workdir = ("--workdir", tmp_path / "run")
        return fails(capsys, train.main, "--config", recipe_file, *workdir, "--data.encodings", folder)

    assert f"no encodings at {tmp_path / 'none'}" in told(tmp_path / "none")
    assert "has no encodings.json" in told(tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name, content in contents(cache).items():
        (damaged / name).write_bytes(content)
    (damaged / "00001.array_record").write_bytes(b"short")
    assert "00001.array_record is damaged; remove it and encode again" in told(damaged)
    (damaged / "encodings.json").write_text("{}")
    assert "does not describe encodings" in told(damaged)


def test_a_plan_has_no_encoders(recipe, cache):
    config = changed(recipe, encodings=str(cache))
    _, frozen, _ = abstract_state(config, model_config(config), make_mesh())
    assert frozen.keys() == {"mmdit"}
    planned, real = abstract_batch(config, TINY, make_mesh(), refs=2), next(batches_of(config))
    assert jax.tree.map(np.shape, planned) == jax.tree.map(np.shape, real)
    assert [x.dtype for x in jax.tree.leaves(planned)] == [x.dtype for x in jax.tree.leaves(real)]

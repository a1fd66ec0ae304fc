"""DreamBench: 30 subjects in 25 prompts each, alone and in 30 pairs -> entries to draw and score.

`dreambench.json` holds the folders, class words and prompts of DreamBooth (Ruiz et al. 2022,
arXiv:2208.12242, the data set's description); which photo is the reference and which subjects form pairs are
UNO's choices.
"""

from collections.abc import Collection, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from uno_jax.data.entries import PAIR_KEYS, DataError, check_keys, prompt_of, references_of
from uno_jax.data.list_files import read_entries
from uno_jax.support.images import SUFFIXES
from uno_jax.support.json_files import read_json, shortened

DATA = Path(__file__).parent / "dreambench.json"


class Prompt(NamedTuple):
    """One prompt of the suite; references and subjects are in the same order."""

    prompt: str
    references: tuple[Path, ...]
    subjects: tuple[str, ...]
    """Folders of the subjects' photos."""
    category: str


@cache
def description() -> dict[str, Any]:
    """The contents of dreambench.json."""
    return cast(dict[str, Any], read_json(DATA))


def single_prompts(data: Path) -> list[Prompt]:
    """Every subject in its 25 prompts: 750."""
    return [prompt for folder in description()["subjects"] for prompt in prompts_of((folder,), data)]


def multi_prompts(data: Path, count: int = 2) -> list[Prompt]:
    """UNO's 30 pairs in 25 prompts each: 750. For 3 or 4 subjects a pair is joined by those of the pairs
    that follow, animals first.
    """
    subjects, pairs = description()["subjects"], description()["pairs"]
    groups = []
    for index, pair in enumerate(pairs):
        others = (name for later in pairs[index + 1 :] + pairs[:index] for name in later if name not in pair)
        unique = list(dict.fromkeys(others))
        group = (*pair, *islice(unique, count - 2))
        groups.append(tuple(sorted(group, key=lambda name: subjects[name][1] != "live")))
    return [prompt for group in groups for prompt in prompts_of(group, data)]


def prompts_of(folders: tuple[str, ...], data: Path) -> Iterator[Prompt]:
    """The 25 prompts of one subject, or of several together.

    Animals wear clothes where objects are placed in more scenes. A property applies to every object, but in a
    group with an animal to the first subject only, as in UNO's lists.
    """
    subjects, templates = description()["subjects"], description()["templates"]
    names = [f"a {subjects[folder][0]}" for folder in folders]
    living = any(subjects[folder][1] == "live" for folder in folders)
    references = tuple(data / folder / subjects[folder][2] for folder in folders)
    first, rest = names[0], "".join(f", next to it is {name}" for name in names[1:])
    for category, phrases in templates.items():
        if category == ("scene of objects" if living else "clothes of animals"):
            continue
        for phrase in phrases:
            if category == "clothes of animals":
                prompt = f"{first} {phrase}{rest}"
            elif category != "property":
                prompt = f"{' and '.join(names)} {phrase}"
            elif living:
                prompt = f"a {phrase} {first[2:]}{rest}"
            else:
                prompt = " and ".join(f"a {phrase} {name[2:]}" for name in names)
            yield Prompt(prompt, references, folders, category)


def listed_prompts(path: Path, data: Path) -> list[Prompt]:
    """Prompts of a list in UNO's form; a reference's folder is its subject, looked up in `data`.

    Raises FileNotFoundError or DataError naming the entry.
    """
    known = {
        prompt.prompt: prompt.category
        for prompt in (*single_prompts(data), *multi_prompts(data))  # equal prompts have equal categories
    }
    prompts = []
    for index, entry in enumerate(read_entries(path)):
        try:
            text, paths = prompt_and_references(entry)
        except DataError as error:
            raise DataError(f"{path}, entry {index}: {error}") from None
        subjects = tuple(Path(item).parent.name for item in paths)
        references = tuple(data / Path(item).parent.name / Path(item).name for item in paths)
        prompts.append(Prompt(text, references, subjects, known.get(text, "other")))
    return prompts


def prompt_and_references(entry: Any, keys: Collection[str] = PAIR_KEYS) -> tuple[str, tuple[str, ...]]:
    """The prompt and the references of an entry in UNO's form, which may have these `keys`.

    Raises DataError.
    """
    if not isinstance(entry, dict):
        raise DataError(f"expected an object, got {shortened(entry)}")
    if own := sorted({"width", "height", "seed", "left_path"} & entry.keys()):
        raise DataError(
            f"{', '.join(own)} cannot be set by entry here: all prompts are drawn with the same --width, "
            "--height and --seed"
        )
    check_keys(entry, keys)
    text, paths = prompt_of(entry), references_of(entry)
    if not text.strip():
        raise DataError("the prompt is empty")
    if not paths:
        raise DataError('"image_paths" names no reference')
    return text, paths


def photos(data: Path, subject: str) -> list[Path]:
    """All photos of a subject's folder, by name.

    Raises FileNotFoundError when there is none.
    """
    found = sorted(path for path in (data / subject).glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f"no photos of {subject}: expected {data / subject} to hold pictures")
    return found

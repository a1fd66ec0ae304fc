"""What is to be judged: a directory of `uno_jax.evaluate --suite dreambench-…`, or a list in UNO's form with
a folder of pictures -> cases, a picture each, whose files are all there. No picture is decoded here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ..common.manifest import SynthesisError

SHOWN = 10
Text = Annotated[str, Field(pattern=r"\S")]
Form = TypeVar("Form")


class Case(NamedTuple):
    """A drawn picture and what it was drawn from; references and subjects in the same order."""

    picture: Path
    prompt: str
    references: tuple[Path, ...]
    subjects: tuple[str, ...]
    """The references' folders."""


class Entry(BaseModel):
    """Of a list in UNO's form; other fields are left alone."""

    prompt: Text
    image_paths: list[Text] = []
    image_path: Text | None = None


class ScoredRow(BaseModel):
    picture: str = Field(pattern=r"^\d+_\d+\.png$")
    prompt: Text
    subjects: list[Text] = Field(min_length=1)


class Scores(BaseModel):
    """What is needed of scores.json."""

    rows: list[ScoredRow] = Field(min_length=1)
    pictures: str | None = None
    """Of --score-only: where they lie."""


class Source(NamedTuple):
    """An entry's prompt and references."""

    prompt: str
    references: tuple[Path, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(path.parent.name for path in self.references)


def evaluation_cases(folder: Path, data: Path | None, pictures: Path | None) -> list[Case]:
    """The pictures that scores.json has rows of. Raises SynthesisError.

    `data` and `pictures` say where photos and pictures are, if not where the evaluation found them.
    """
    if not folder.is_dir():
        raise SynthesisError(f"no directory {folder}: --evaluation takes the --out of uno_jax.evaluate")
    path = folder / "scores.json"
    scores = read(path, Scores, "an evaluation of --suite dreambench-…; run uno_jax.evaluate to its end")
    place = pictures or (Path(scores.pictures) if scores.pictures else folder)
    sources = read_list(folder / "prompts.json", data)
    cases = []
    for row in scores.rows:
        index = int(row.picture.partition("_")[0])
        source = sources[index] if index < len(sources) else None
        if source is None or (source.prompt, source.subjects) != (row.prompt, tuple(row.subjects)):
            found = "nothing" if source is None else f"{source.prompt!r} of {', '.join(source.subjects)}"
            raise SynthesisError(
                f"{path} scored {row.picture} as {row.prompt!r} of {', '.join(row.subjects)}, where the list"
                f" of prompts now has {found}: run uno_jax.evaluate again"
            )
        cases.append(Case(place / row.picture, *source, source.subjects))
    return with_files(cases)


def list_cases(path: Path, data: Path | None, pictures: Path, count: int) -> list[Case]:
    """`count` pictures of each entry, named {entry}_{picture}.png as by uno_jax.sample. Raises
    SynthesisError.
    """
    if not pictures.is_dir():
        raise SynthesisError(f"no directory {pictures}: --pictures takes a folder of {{entry}}_{{image}}.png")
    return with_files(
        [
            Case(pictures / f"{index}_{number}.png", *source, source.subjects)
            for index, source in enumerate(read_list(path, data))
            for number in range(count)
        ]
    )


def read_list(path: Path, data: Path | None) -> list[Source]:
    """A list's entries, their references relative to it, or in folders of `data`. Raises SynthesisError."""
    form = "a list of {prompt, image_paths}, with at least one reference an entry"
    entries = read(path, Annotated[list[Entry], Field(min_length=1)], form)
    sources = []
    for index, entry in enumerate(entries):
        names = entry.image_paths or ([entry.image_path] if entry.image_path else [])
        if not names:
            raise SynthesisError(f"{path}, entry {index}: no reference, and so no subject to judge")
        references = [path.parent / name for name in names]
        if data is not None:
            references = [data / each.parent.name / each.name for each in references]
        sources.append(Source(entry.prompt, tuple(references)))
    return sources


def read(path: Path, form: type[Form], what: str) -> Form:
    """A JSON file of that form. Raises SynthesisError saying that it is not `what`."""
    try:
        return TypeAdapter(form).validate_json(path.read_bytes())
    except OSError as error:
        raise SynthesisError(f"{path} cannot be read ({error.strerror}): expected {what}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise SynthesisError(f"{path} is not {what}: {where} {problem['msg']}") from None


def with_files(cases: Sequence[Case]) -> list[Case]:
    """The cases, whose files are there. Raises SynthesisError naming some that are not."""
    check_files("pictures", [case.picture for case in cases], "draw them, or pass --pictures")
    references = (path for case in cases for path in case.references)
    check_files("references", references, "pass --data, the folder of the subjects' folders")
    return list(cases)


def check_files(what: str, paths: Iterable[Path], remedy: str) -> None:
    every = list(dict.fromkeys(paths))
    if missing := [str(path) for path in every if not path.is_file()]:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise SynthesisError(
            f"{len(missing)} of {len(every)} {what} are missing: {', '.join(missing[:SHOWN])}{more}; {remedy}"
        )

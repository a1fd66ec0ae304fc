"""What is to be judged: a directory of `uno_jax.evaluate`, or a list in UNO's format with a folder of
pictures -> one case per picture, whose files all exist. No picture is decoded here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, Field, RootModel, ValidationError

from uno_jax.support.json_files import JsonFault, read_json
from uno_jax.support.json_lists import read_list_file
from uno_jax.support.words import counted

from ..common.errors import ToolError

SHOWN = 10
LIST = "list"  # the suite whose subjects are not named by folders
Text = Annotated[str, Field(pattern=r"\S")]
Form = TypeVar("Form", bound=BaseModel)


class Case(NamedTuple):
    """A drawn picture and what it was drawn from; references and subjects are in the same order."""

    picture: Path
    prompt: str
    references: tuple[Path, ...]
    subjects: tuple[str, ...]
    """Names of the references' folders, or what a list says that they show."""
    category: str = ""
    """The kind of a list's entry, over which scores are averaged; otherwise that is the subjects."""


class ListEntry(BaseModel):
    """An entry of a list in UNO's format; other fields are ignored."""

    prompt: Text
    image_paths: list[Text] = []
    image_path: Text | None = None


class ListFile(RootModel):
    root: list[ListEntry] = Field(min_length=1)


class ScoredRow(BaseModel):
    picture: str = Field(pattern=r"^\d+_\d+\.png$")
    prompt: Text
    subjects: list[Text] = Field(min_length=1)
    category: str = ""


class Scores(BaseModel):
    """The fields of scores.json that are used here."""

    rows: list[ScoredRow] = Field(min_length=1)
    suite: str = ""
    pictures: str | None = None
    """Their folder, if they were given by --score-only."""


class Source(NamedTuple):
    """Prompt and references of an entry."""

    prompt: str
    references: tuple[Path, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(path.parent.name for path in self.references)


def evaluation_cases(folder: Path, data: Path | None, pictures: Path | None) -> list[Case]:
    """Returns the pictures that scores.json has rows for.

    Raises ToolError.

    `data` and `pictures` are the folders of photos and pictures, if they were moved after the evaluation.
    """
    if not folder.is_dir():
        raise ToolError(f"no directory {folder}: --evaluation takes the --out of uno_jax.evaluate")
    path = folder / "scores.json"
    what = "an evaluation of --suite dreambench-… or list; let uno_jax.evaluate finish"
    scores = checked(read_json(path, fault_of(what)), path, Scores, what)
    place = pictures or (Path(scores.pictures) if scores.pictures else folder)
    sources = read_list(folder / "prompts.json", data)
    cases = []
    for row in scores.rows:
        index = int(row.picture.partition("_")[0])
        source = sources[index] if index < len(sources) else None
        subjects, listed = tuple(row.subjects), scores.suite == LIST
        if source is None or source.prompt != row.prompt or (source.subjects != subjects and not listed):
            found = "no entry" if source is None else f"{source.prompt!r} of {', '.join(source.subjects)}"
            raise ToolError(
                f"{path} scored {row.picture} as {row.prompt!r} of {', '.join(row.subjects)}, where the list"
                f" of prompts now has {found}: run uno_jax.evaluate again"
            )
        cases.append(Case(place / row.picture, *source, subjects, row.category if listed else ""))
    return check_cases(cases)


def list_cases(path: Path, data: Path | None, pictures: Path, count: int) -> list[Case]:
    """Returns `count` pictures of each entry, named {entry}_{picture}.png as by uno_jax.sample.

    Raises ToolError.
    """
    if not pictures.is_dir():
        raise ToolError(f"no directory {pictures}: --pictures takes a folder of {{entry}}_{{image}}.png")
    return check_cases(
        [
            Case(pictures / f"{index}_{number}.png", *source, source.subjects)
            for index, source in enumerate(read_list(path, data))
            for number in range(count)
        ]
    )


def read_list(path: Path, data: Path | None) -> list[Source]:
    """Reads a list's entries, with references relative to it, or in folders of `data`.

    Raises ToolError.
    """
    form = "a list of {prompt, image_paths}, with at least one reference per entry"
    entries = checked(list(read_list_file(path, fault_of(form))), path, ListFile, form).root
    sources = []
    for index, entry in enumerate(entries):
        names = entry.image_paths or ([entry.image_path] if entry.image_path else [])
        if not names:
            raise ToolError(f"{path}, entry {index}: no reference, so there is no subject to judge")
        references = [path.parent / name for name in names]
        if data is not None:
            references = [data / each.parent.name / each.name for each in references]
        sources.append(Source(entry.prompt, tuple(references)))
    return sources


def fault_of(what: str) -> JsonFault:
    """Makes the error of a file that is not even JSON."""
    return lambda message: ToolError(f"{message}; expected {what}")


def checked(value: Any, path: Path, form: type[Form], what: str) -> Form:
    """What a file holds, as that form.

    Raises ToolError saying that it is not `what`.
    """
    try:
        return form.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ToolError(f"{path} is not {what}: {where} {problem['msg']}") from None


def check_cases(cases: Sequence[Case]) -> list[Case]:
    """Returns the cases if all their files exist.

    Raises ToolError naming missing ones.
    """
    check_files("picture", [case.picture for case in cases], "draw them, or pass --pictures")
    references = (path for case in cases for path in case.references)
    check_files("reference", references, "pass --data, the folder of the subjects' folders")
    return list(cases)


def check_files(what: str, paths: Iterable[Path], remedy: str) -> None:
    """Raises ToolError with the `remedy` when files are missing."""
    every = list(dict.fromkeys(paths))
    if missing := [str(path) for path in every if not path.is_file()]:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise ToolError(
            f"missing {len(missing)} of {counted(len(every), what)}: {', '.join(missing[:SHOWN])}{more};"
            f" {remedy}"
        )

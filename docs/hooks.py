"""Hooks of mkdocs: pages from files outside docs/, and a page of docstrings for every folder of uno_jax/."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
# File of the repository -> page, for those that exist.
PAGES = {
    source: page
    for source, page in {
        "README.md": "index.md",
        "ARCHITECTURE.md": "architecture.md",
        "CONTRIBUTING.md": "contributing.md",
        "CHANGELOG.md": "changelog.md",
        "SECURITY.md": "security.md",
        "uno_jax/small/README.md": "small_model.md",
    }.items()
    if (ROOT / source).exists()
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def api_pages() -> dict[str, str]:
    """Page -> its text. The commands share one page: they are modules at the root of uno_jax."""
    commands = ["uno_jax", *sorted(f"uno_jax.{path.stem}" for path in ROOT.glob("uno_jax/[!_]*.py"))]
    pages = {"api/uno_jax.md": "# uno_jax\n\n" + "".join(f"::: {name}\n\n" for name in commands)}
    for folder in sorted(init.parent.name for init in ROOT.glob("uno_jax/*/__init__.py")):
        options = "{ heading_level: 1, show_submodules: true }"
        pages[f"api/{folder}.md"] = (
            f"---\ntitle: {folder}\n---\n\n::: uno_jax.{folder}\n    options: {options}\n"
        )
    return pages


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Appends what is generated to the navigation."""
    generated = [page for page in PAGES.values() if page not in str(config.nav)]
    config.nav = [*(config.nav or []), {"Project": generated}, {"API": list(api_pages())}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for page, text in api_pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository become links between pages; those to other files their text."""
    here = page.file.src_uri
    source = next((source for source, made in PAGES.items() if made == here), f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        picture, text, path, anchor = match.groups(default="")
        target = normpath(PurePosixPath(source).parent / path)
        target = PAGES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(target) is None:
            return text
        return f"{picture}[{text}]({relpath(target, PurePosixPath(here).parent)}{anchor})"

    return LINK.sub(link, markdown)

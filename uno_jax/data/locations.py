"""Where a path or URL leads. Apart from `remote_files`, which takes a tenth of a second to import."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL of anything but this machine's files."""
    return "::" in path or ("://" in path and not path.startswith(("file://", "local://")))

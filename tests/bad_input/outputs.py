"""Outputs that no command can write, for the option of each."""

LONG = "n" * 300


def bad_folders(option: str) -> list[tuple[list[str], str]]:
    return [
        ([option, ""], "the path is empty"),
        ([option, "a.png"], f"{option} a.png: a.png is not a directory"),
        ([option, "a.png/x"], f"{option} a.png/x: a.png is not a directory"),
        ([option, "/dev/null"], "/dev/null is not a directory"),
        ([option, "/proc/none"], f"{option} /proc/none: "),
        ([option, f"new/{LONG}"], "the name is too long for a file"),
        ([option, "http://host/folder"], "http://host/folder must be a local path"),
    ]


def bad_files(option: str, suffix: str) -> list[tuple[list[str], str]]:
    return [
        ([option, ""], "the path is empty"),
        ([option, f"a.png/x{suffix}"], "a.png is not a directory"),
        ([option, f"/proc/none{suffix}"], f"{option} /proc/none{suffix}: "),
        ([option, f"new/{LONG}{suffix}"], "the name is too long for a file"),
        ([option, f"{LONG[:250]}{suffix}"], "the name is too long for a file"),
        ([option, f"http://host/x{suffix}"], "must be a local path"),
    ]

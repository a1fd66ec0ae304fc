"""`uno-web`, `python -m uno_jax.web`: a page in the browser that draws with a model.

What is drawn stays in --out, numbered, with its settings beside it, and is the page's history.
"""

import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from uno_jax.sampling.settings import ModelArgs
from uno_jax.support.atomic import check_output_folder
from uno_jax.support.bounds import Bounds
from uno_jax.support.command_line import exit_on, parse_args
from uno_jax.support.compile_cache import use_compile_cache
from uno_jax.support.words import printable
from uno_jax.web.same_origin import SameOrigin
from uno_jax.web.studio import Studio

WAITING = 8  # drawings that may wait for the one in progress


@dataclass(frozen=True, kw_only=True)
class WebArgs(ModelArgs):
    """Draw from a page in the browser."""

    out: Path = Path("out/web")
    """Directory of the pictures that are drawn, with their settings, and of the references. Whoever reaches
    the page can read all files in it.
    """
    host: str = "127.0.0.1"
    """Address to listen at. By default only this computer reaches the page; 0.0.0.0 lets everybody who
    reaches the computer draw with it and see all that was drawn.
    """
    port: Annotated[int, Bounds(0, 65_535)] = 7860
    """Port to listen at; 0 takes a free one."""
    max_upload: Annotated[int, Bounds(1, 1_000)] = 30
    """Largest upload in MB."""


def main(argv: Sequence[str] | None = None) -> None:
    """The command `uno-web`."""
    args = parse_args(WebArgs, "uno-web", argv)
    use_compile_cache()
    with exit_on(ValueError, OSError, FloatingPointError, ImportError):
        check_output_folder("--out", args.out)
        if find_spec("gradio") is None:
            raise ValueError("the page needs gradio: pip install 'uno_jax[web]'")
        check_address(args.host, args.port)
        studio = Studio(args, args.out.absolute())
        for note in studio.notes:
            print(printable(note), file=sys.stderr)
        args.out.mkdir(parents=True, exist_ok=True)
        if not is_loopback(args.host):
            print(f"warning: everybody who reaches {args.host} can draw here", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="uno_web_") as uploads:
            os.environ["GRADIO_TEMP_DIR"] = uploads  # read when the page is built
            page, address = serve(studio, args)
            print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
            page.block_thread()


def check_address(host: str, port: int) -> None:
    """Raises OSError for an address that cannot be listened at."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"--host {host} --port {port} cannot be listened at ({reason}): name another") from None


def serve(studio: Studio, args: WebArgs) -> tuple[Any, str]:
    """Begins to show the page, in threads; returns it, and its address.

    Raises OSError for a port that is taken.
    """
    from starlette.middleware import Middleware

    from uno_jax.web.page import STYLE, THEME, build_page

    own_pages = Middleware(SameOrigin, loopback=is_loopback(args.host))
    page = build_page(studio).queue(max_size=WAITING, default_concurrency_limit=None, api_open=False)
    _, address, _ = page.launch(
        server_name=args.host,
        server_port=args.port or None,
        max_file_size=f"{args.max_upload}mb",
        allowed_paths=[str(studio.folder)],
        footer_links=[],
        app_kwargs={"middleware": [own_pages]},
        theme=THEME,
        css=STYLE,
        quiet=True,
        prevent_thread_lock=True,
    )
    return page, address


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()

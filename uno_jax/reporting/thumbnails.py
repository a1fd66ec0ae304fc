"""Picture files -> small pictures as data URIs, each once however often the page shows it."""

import base64
import io
from pathlib import Path

from PIL import Image

from uno_jax.support.images import read_image

QUALITY = 80  # of WebP


class Thumbnails:
    """Owns a page's pictures: `uris`, and in `missing` why a file could not be shown."""

    def __init__(self, side: int) -> None:
        """`side` is the longest in pixels; smaller pictures are not enlarged."""
        self.side = side
        self.missing: dict[Path, str] = {}
        self._by_path: dict[tuple[Path, int], int | None] = {}
        self._by_uri: dict[str, int] = {}

    @property
    def uris(self) -> list[str]:
        """The pictures as data URIs."""
        return list(self._by_uri)

    def add(self, path: Path, side: int | None = None) -> int | None:
        """The picture's index in `uris`, with a longest side of its own where one is given; None when it is
        missing or damaged.
        """
        key = path, side or self.side
        if key not in self._by_path:
            self._by_path[key] = self._make(*key)
        return self._by_path[key]

    def _make(self, path: Path, side: int) -> int | None:
        try:
            image = read_image(path)
        except (OSError, ValueError) as error:
            self.missing[path] = str(error)
            return None
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "webp", quality=QUALITY)
        uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        return self._by_uri.setdefault(uri, len(self._by_uri))

"""Writing a file so that a reader never sees half of it.

    with replacing(path) as temporary:
        temporary.write_bytes(...)

On any fault the old file stays as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced to disk and moved onto `path`.

    On any exception the temporary file is removed and what stood at `path` is untouched. The
    temporary name keeps the suffix, since writers choose their format by it.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()

"""Downloads the published table of Stains et al. 2018 from its public archive.

    python dataset.py --download [--force] [--output data/stains.csv]

The archive (Harvard Dataverse, data access API) sends either the deposited .xlsx, which has the data on the first sheet
and a key on the second, or a tab-separated version of it; the format is recognised by the content. The table is checked
like any other table and written as .csv. An error prints one line to stderr, leaves no incomplete file, and gives the
exit status 1 (2 for invalid arguments).
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence, Sized
from pathlib import Path

from layersearch.files import replacing
from layersearch.table.copus import N_ROWS
from layersearch.table.formats import DataError, read_table, with_header

URL = "https://dataverse.harvard.edu/api/access/datafile/:persistentId?persistentId=doi:10.7910/DVN/48MMF9/GYFSND"
MAX_BYTES = 20_000_000  # the deposited file has less than 1 MB
DEADLINE = 300.0  # the longest duration of a download, seconds
CITATION = """\
Please cite:
  Stains et al. (2018), Anatomy of STEM teaching in North American universities, Science 359:1468,
    doi:10.1126/science.aap8892
  Data: Harvard Dataverse, doi:10.7910/DVN/48MMF9"""


class DownloadError(Exception):
    """The table could not be downloaded, or it is not the expected one; the message is one line."""


def main(
    argv: Sequence[str] | None = None, *, check: Callable[[Path], Sized], url: str = URL, timeout: float = 30.0
) -> int:
    """Runs the command and returns its exit status.

    Args:
        argv: the arguments, by default those of the process.
        check: reads the table as a search does (`COPUSDataset`), and returns an object whose length is the number of
            rows. It may raise a DataError.
        url: the address of the table.
        timeout: seconds to wait for the archive to send anything.
    """
    parser = argparse.ArgumentParser(prog="dataset.py", description="Fetches the table of Stains et al. 2018.")
    parser.add_argument("--download", action="store_true", required=True, help="fetch the table")
    parser.add_argument("--force", action="store_true", help="replace a file that is already there")
    parser.add_argument("--output", type=Path, default=Path("data/stains.csv"), help="default: data/stains.csv")
    args = parser.parse_args(argv)
    if args.output.suffix.lower() != ".csv":
        parser.error(f"--output '{args.output}': must end in .csv")
    try:
        if args.output.is_dir():
            raise DownloadError(f"{args.output}: is a folder")
        if args.output.exists() and not args.force:
            raise DownloadError(f"{args.output}: is already there; --force replaces it")
        save_checked(fetch(url, timeout), args.output, check)
    except (DownloadError, OSError) as error:
        print(f"dataset.py: {error}", file=sys.stderr)
        return 1
    print(f"{args.output}: {N_ROWS:,} classes\n{CITATION}")
    return 0


def fetch(url: str, timeout: float) -> bytes:
    """Downloads the content at an address. Raises DownloadError if it is not received completely."""
    request = urllib.request.Request(url, headers={"User-Agent": "hyperparam-optimizer"})
    deadline = time.monotonic() + DEADLINE
    content = bytearray()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            while chunk := response.read1(1 << 16):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise DownloadError(f"{url}: the answer exceeds {MAX_BYTES:,} bytes; this is not the table")
                if time.monotonic() > deadline:
                    raise DownloadError(f"{url}: the answer took more than {DEADLINE:g} s; try again later")
            if response.length:  # number of bytes that were not received
                raise http.client.IncompleteRead(b"", response.length)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{url}: the archive answers {error.code} {error.reason}; try again later") from error
    except TimeoutError as error:
        raise DownloadError(f"{url}: no answer within {timeout:g} s; try again later") from error
    except http.client.IncompleteRead as error:
        raise DownloadError(f"{url}: the answer broke off after {len(content):,} bytes; try again") from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise DownloadError(f"{url}: cannot be reached: {reason}") from error
    return bytes(content)


def save_checked(content: bytes, output: Path, check: Callable[[Path], Sized]) -> None:
    """Writes the downloaded table to `output` as .csv if it is the expected one.

    If anything fails, an existing file is left unchanged.

    Raises:
        DownloadError: the content is not the expected table.
        OSError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer, checked = Path(folder, f"answer{_suffix_of(content)}"), Path(folder, "checked.csv")
        answer.write_bytes(content)
        try:
            first_sheet = next(iter(read_table(answer).sheets.values()))
            with_header(first_sheet, str(answer)).to_csv(checked, index=False, lineterminator="\n", encoding="utf-8")
            n_rows = len(check(checked))
        except DataError as error:
            reason = str(error).removeprefix(f"{answer}: ").removeprefix(f"{checked}: ")
            raise DownloadError(f"the archive's answer is not the table expected: {reason}; not written") from error
        if n_rows != N_ROWS:
            raise DownloadError(f"the archive's answer has {n_rows:,} rows instead of {N_ROWS:,}; not written")
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            temporary.write_bytes(checked.read_bytes())


def _suffix_of(content: bytes) -> str:
    """Returns the file suffix for the format of the content. Raises DownloadError if it is not a table."""
    if content.startswith(b"PK\x03\x04"):
        return ".xlsx"
    if content.lstrip()[:1] in (b"<", b"{"):
        raise DownloadError("the archive answers with a web page or a message instead of the table; try again later")
    if b"\t" not in content.partition(b"\n")[0]:
        raise DownloadError("the archive's answer is neither .xlsx nor tab-separated; not written")
    return ".tsv"

"""Fetching the published table, from an archive that is a real HTTP server on this machine."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from dataset import COPUS_CODES, COPUSDataset
from layersearch.command import download
from layersearch.table.copus import N_ROWS

Answer = Callable[[BaseHTTPRequestHandler], None]


class Archive(ThreadingHTTPServer):
    """Answers every request by `answer`, which a test sets."""

    daemon_threads = True
    answer: Answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/table"

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent where the client hangs up: that is what the tests make it do."""


class Handler(BaseHTTPRequestHandler):
    server: Archive

    def do_GET(self) -> None:
        self.server.answer(self)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Archive(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def published(n_rows: int = N_ROWS) -> pd.DataFrame:
    """A table of the published form, its values made up."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(np.round(rng.uniform(0, 100, (n_rows, 24)), 1), columns=list(COPUS_CODES))
    frame.insert(0, "Semester", ["Fall", None] * (n_rows // 2) + [None] * (n_rows % 2))
    return frame.assign(T_O=0.0, Cluster=1, Bcluster="Mostly lecture")


@pytest.fixture(scope="module")
def workbook() -> bytes:
    content = io.BytesIO()
    with pd.ExcelWriter(content) as book:
        published().to_excel(book, sheet_name="Data", index=False)
        pd.DataFrame({"Category": ["Students"], "Variable name": ["L"]}).to_excel(book, sheet_name="Key", index=False)
    return content.getvalue()


def tab_separated(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, sep="\t").encode()


def sends(content: bytes, *, promised: int | None = None) -> Answer:
    """A good answer with this content, or one that promises another number of bytes."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content) if promised is None else promised))
        request.end_headers()
        request.wfile.write(content)

    return answer


def run(archive: Archive, output: Path, *arguments: str, timeout: float = 10) -> int:
    return download.main(["--download", "--output", str(output), *arguments], url=archive.url, timeout=timeout)


def assert_refused(
    archive: Archive, output: Path, capsys: pytest.CaptureFixture[str], reason: str, *, timeout: float = 10
) -> None:
    """Exit status 1, one line on stderr that says `reason`, and the folder as it was."""
    before = sorted(output.parent.iterdir())
    assert run(archive, output, timeout=timeout) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert reason in printed.err
    assert sorted(output.parent.iterdir()) == before


@pytest.mark.parametrize("form", ["xlsx", "tab-separated"])
def test_table_is_written_and_citation_printed(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str], workbook: bytes, form: str
) -> None:
    archive.answer = sends(workbook if form == "xlsx" else tab_separated(published()))
    output = tmp_path / "new" / "stains.csv"
    assert run(archive, output) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "10.1126/science.aap8892" in printed.out
    assert "10.7910/DVN/48MMF9" in printed.out
    pd.testing.assert_frame_equal(
        pd.read_csv(output), pd.read_csv(io.StringIO(published().to_csv(index=False))), check_dtype=False
    )
    expected = torch.tensor(published()[list(COPUS_CODES)].to_numpy(), dtype=torch.float32)
    assert torch.equal(COPUSDataset(output).data, expected)
    assert [path.name for path in output.parent.iterdir()] == ["stains.csv"]


def test_redirect_is_followed(archive: Archive, tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/table":
            request.send_response(302)
            request.send_header("Location", "/stored")
            request.end_headers()
        else:
            sends(tab_separated(published()))(request)

    archive.answer = answer
    assert run(archive, tmp_path / "stains.csv") == 0


def test_file_already_there_is_kept_without_force(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.answer = sends(tab_separated(published()))
    output = tmp_path / "stains.csv"
    output.write_text("mine")
    assert_refused(archive, output, capsys, "is already there; --force replaces it")
    assert output.read_text() == "mine"
    assert run(archive, output, "--force") == 0
    assert len(COPUSDataset(output)) == N_ROWS


def test_force_keeps_the_old_file_when_the_download_fails(archive: Archive, tmp_path: Path) -> None:
    archive.answer = sends(b"<html>")
    output = tmp_path / "stains.csv"
    output.write_text("mine")
    assert run(archive, output, "--force") == 1
    assert output.read_text() == "mine"


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_http_error_is_refused(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    archive.answer = lambda request: request.send_error(status)
    assert_refused(archive, tmp_path / "stains.csv", capsys, f"the archive answers {status}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "neither .xlsx nor tab-separated"),
        (b"<!DOCTYPE html><html><body>Sorry</body></html>", "a web page or a message instead"),
        (b'{"status":"ERROR"}', "a web page or a message instead"),
        (b"PK\x03\x04 and no more", "not the table expected: cannot be read as .xlsx"),
        (tab_separated(published(2007)), "2,007 rows instead of 2,008"),
        (tab_separated(published().drop(columns="PRD")), "not the table expected: no column for the COPUS code PRD"),
        (tab_separated(published().assign(PRD="x")), "not the table expected: row 2, column 'PRD': 'x' is not a"),
        (tab_separated(published()[:0]), "not the table expected: there is a header and no row"),
    ],
    ids=["empty", "html", "json", "cut-xlsx", "row-missing", "column-missing", "text-cell", "header-only"],
)
def test_wrong_content_is_refused(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, reason: str
) -> None:
    archive.answer = sends(content)
    assert_refused(archive, tmp_path / "stains.csv", capsys, reason)


def test_answer_that_breaks_off_is_refused(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tab_separated(published())
    archive.answer = sends(content, promised=len(content) + 1)  # what came would pass every other check
    assert_refused(archive, tmp_path / "stains.csv", capsys, f"broke off after {len(content):,} bytes")


def test_chunked_answer_that_breaks_off_is_refused(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = tab_separated(published())

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))  # and no closing chunk

    archive.answer = answer
    assert_refused(archive, tmp_path / "stains.csv", capsys, "broke off after")


def test_silent_archive_is_given_up(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.answer = lambda request: time.sleep(1)
    assert_refused(archive, tmp_path / "stains.csv", capsys, "no answer within 0.2 s", timeout=0.2)


def test_trickling_archive_is_given_up(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        sends(b"L\t", promised=1000)(request)
        for _ in range(20):
            time.sleep(0.05)
            request.wfile.write(b".")

    archive.answer = answer
    monkeypatch.setattr(download, "DEADLINE", 0.2)
    assert_refused(archive, tmp_path / "stains.csv", capsys, "took more than 0.2 s")


def test_endless_answer_is_given_up(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.answer = sends(tab_separated(published()))
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    assert_refused(archive, tmp_path / "stains.csv", capsys, "exceeds 1,000 bytes")


def test_answer_that_is_not_http_is_refused(
    archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"what?\r\n\r\n")

    archive.answer = answer
    assert_refused(archive, tmp_path / "stains.csv", capsys, "cannot be reached")


def test_absent_network_is_refused(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Archive(("127.0.0.1", 0), Handler) as gone:
        pass  # its port is closed again
    assert_refused(gone, tmp_path / "stains.csv", capsys, "cannot be reached")


def test_unwritable_place_is_refused(archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.answer = sends(tab_separated(published()))
    (tmp_path / "file").write_text("")
    assert run(archive, tmp_path / "file" / "stains.csv") == 1
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "folder.csv").mkdir()
    assert run(archive, tmp_path / "folder.csv") == 1
    assert "is a folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_faulty_arguments_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--download", "--output", "stains.xlsx"], ["--download", "--what"]):
        with pytest.raises(SystemExit) as caught:
            download.main(argv)
        assert caught.value.code == 2
    assert "must end in .csv" in capsys.readouterr().err


def test_dataset_command_downloads(tmp_path: Path) -> None:
    """The documented command; the file is already there, so no network is needed."""
    (tmp_path / "stains.csv").write_text("mine")
    command = [sys.executable, str(ROOT / "dataset.py"), "--download", "--output", str(tmp_path / "stains.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"dataset.py: {tmp_path / 'stains.csv'}: is already there; --force replaces it\n"


def test_real_table_passes_the_checks(archive: Archive, tmp_path: Path, real_table: Path) -> None:
    archive.answer = sends(tab_separated(pd.read_csv(real_table)))
    assert run(archive, tmp_path / "stains.csv") == 0
    assert torch.equal(COPUSDataset(tmp_path / "stains.csv").data, COPUSDataset(real_table).data)

"""The report is complete, bounded, and safe whatever the table says. How it behaves: test_html_browser.py."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from commands import Run
from documents import DRAWN, KINDS, PNG, make_document

from document_words import escape, name_of, readable, short, with_flags
from html_pictures import PICTURES
from html_report import html_report
from html_table import COLUMNS, ROWS_SHOWN
from reporting import output_files

HOSTILE = (
    "<script>alert(1)</script>",
    '"onload="alert(1)',
    "' onfocus='alert(1)",
    "</script><img src=x onerror=alert(1)>",
    "&amp;&#60;",
    "--></style><!--",
    "\u202eabc\u2066\u200f",
    "a\u2028b\u2029c",
    "\x00\x07\x1b[31m",
    "]]>",
)


class Page(HTMLParser):
    """What a parser finds: tags with their attributes' names, and by tag the texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.attributes.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "script":
            self.scripts.append("")
            self._in_script = True

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data

    def rows(self) -> list[Any]:
        """The table's data."""
        rows: list[Any] = json.loads(self.scripts[0])["rows"]
        return rows


def page_of(document: dict[str, Any], names: Any = ()) -> Page:
    return Page(html_report(document, dict.fromkeys(names, PNG)))


def pictures_of(kind: str) -> list[str]:
    """Those that such a search draws."""
    return [] if kind in ("failed", "nothing") else DRAWN


@pytest.mark.parametrize("kind", KINDS)
def test_any_search_has_a_report(kind: str) -> None:
    page = page_of(make_document(kind), pictures_of(kind))
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(a["href"])[1:] for tag, a in page.attributes if tag == "a" and str(a["href"]).startswith("#")]
    assert set(links) <= set(ids)
    assert {"verdict", "methods", "run"} <= set(ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    alts = [str(a["alt"]) for tag, a in page.attributes if tag == "img"]
    assert len(alts) == len(pictures_of(kind))
    assert all(re.search("[0-9]", alt) for alt in alts)


def test_the_verdict_comes_first_and_word_for_word() -> None:
    document = make_document()
    text = html_report(document, {})
    first, *rest = document["verdict"]["statement"]
    assert 0 < text.index(escape(first.removeprefix("Verdict: "))) < text.index("Keep in mind</h2>")
    for line in rest:
        lead, _, words = line.strip().partition(": ")
        assert escape(words or lead).partition("--")[0] in text


def test_no_winner_is_named_in_the_title() -> None:
    text = html_report(make_document(), {})
    assert "<title>Hidden layers for a latent space of 3 dimensions</title>" in text


SAID = {
    "whole": ["Not proven", "1 configuration failed", "PCA", "Training was too short", "4 cells above 100 %"],
    "proven": ["Training was too short"],
    "one repeat": ["No verdict"],
    "failed": ["Every configuration failed.", "9 configurations failed", "3 more"],
    "interrupted": ["Interrupted", "Not proven", "9 of 34 configurations"],
    "nothing": ["Interrupted", "The search was interrupted before any"],
}


@pytest.mark.parametrize("kind", SAID)
def test_what_limits_the_verdict_is_said(kind: str) -> None:
    text = html_report(make_document(kind), {})
    for words in SAID[kind]:
        assert words in text
    for other in {"Not proven", "Interrupted", "No verdict", "Synthetic data"} - set(SAID[kind]):
        assert f"<b>{other}</b>" not in text


def test_synthetic_data_and_unbeaten_baselines_are_said() -> None:
    document = make_document()
    document["data"]["synthetic"] = True
    document["verdict"]["baselines"][1]["not_beaten_by"] = 8
    text = html_report(document, {})
    assert "<b>Synthetic data</b>" in text
    assert "<b>Not beaten: PCA with 3 components</b>" in text
    document["verdict"]["baselines"][1]["not_beaten_by"] = 5
    assert "Not beaten:" not in html_report(document, {})
    assert "not beaten by 5 of 8" in html_report(document, {})


def texts_replaced(value: Any, text: str, *, keep: Any = ("config", "status", "timestamp", "kind", "strategy")) -> Any:
    """The document with this in place of every text, but for those that the program itself chooses from a few."""
    if isinstance(value, dict):
        return {name: item if name in keep else texts_replaced(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [texts_replaced(item, text) for item in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_changes_nothing_but_text(text: str) -> None:
    document = make_document()
    tame, hostile = ({**texts_replaced(document, word), "args": document["args"]} for word in ("tame", text))
    hostile["args"] = {**document["args"], "data_path": text, "output_dir": text, "label_column": text}
    tame["args"] = {**document["args"], "data_path": "tame", "output_dir": "tame", "label_column": "tame"}
    hostile["data"]["mapped_columns"] = {text: text}
    for entry in hostile["all_results"]:
        entry["status"] = f"failed: {text}" if entry["status"] != "ok" else "ok"
    assert page_of(hostile, DRAWN).tags == page_of(tame, DRAWN).tags
    page = html_report(hostile, {})
    assert not re.search("[\x00-\x08\x0b-\x1f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200f]", page)


def test_what_would_not_be_seen_is_spelt_out() -> None:
    assert readable("a\u202eb\nc\u2028é") == r"a\u202eb\u000ac\u2028é"
    assert escape('<a href="x">&') == "&lt;a href=&quot;x&quot;&gt;&amp;"
    assert with_flags("<; --cv_folds 5 gives") == "&lt;; <code>--cv_folds 5</code> gives"
    assert short(1e-06) == "1e-6"
    assert (
        name_of({"config": [[64, 32], [16, 64]], "options": {"dropout": 0.3}}) == "[64, 32] -> [16, 64] (dropout 0.3)"
    )


def test_null_wherever_it_may_be_is_a_dash_or_nothing() -> None:
    document = make_document("one repeat")
    for entry in document["all_results"]:
        entry |= dict.fromkeys(("final_test_loss_sd", "probability_best", "difference_interval", "tied"))
    document["environment"] |= dict.fromkeys(("git_commit", "device_name", "optuna"))
    document["verdict"] |= {"probe": None, "optimism": None, "repeats_to_settle": None, "baselines": []}
    document["search"] = None
    page = html_report(document, dict.fromkeys(DRAWN, PNG))
    assert not re.search(r"\b(None|nan|NaN|null)\b", re.sub("<script.*?</script>", "", page, flags=re.DOTALL))


def test_the_page_may_fetch_nothing_and_run_nothing_but_its_own() -> None:
    text = html_report(make_document(), dict.fromkeys(DRAWN, PNG))
    page = Page(text)
    (policy,) = [a["content"] for _, a in page.attributes if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in str(policy)
    assert "default-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)
    for tag, attributes in page.attributes:
        for name in ("src", "href"):
            address = str(attributes.get(name) or "data:")
            assert address.startswith(("data:", "#")) or (tag, name) == ("a", "href")
        assert not any(name.startswith("on") or name == "style" for name in attributes)


def test_pictures_are_in_the_file_with_their_size() -> None:
    page = page_of(make_document(), ["verdict_plot"])
    (image,) = [attributes for tag, attributes in page.attributes if tag == "img"]
    assert (image["width"], image["height"]) == ("1400", "1000")
    assert base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,")) == PNG


def test_every_picture_that_is_written_is_shown() -> None:
    fields = output_files(Path("output"), 3)._asdict()
    assert {name for name, path in fields.items() if path.suffix == ".png"} == set(PICTURES)


def many(n: int) -> dict[str, Any]:
    """A search of so many configurations."""
    document = make_document()
    entries = document["all_results"]
    document["all_results"] = [
        {**entries[rank % 7 if rank else 0], "rank": rank + 1, "model_params": 10 * n - rank, "config": [rank + 1, 8]}
        for rank in range(n)
    ]
    return document


def test_ten_thousand_configurations_are_all_in_the_data_and_the_first_hundred_in_the_table() -> None:
    document = many(10_000)
    text = html_report(document, {})
    page = Page(text)
    rows = page.rows()
    assert len(rows) == 10_000
    assert page.tags.count(("tr",)) + page.tags.count(("tr", "class")) == 1 + ROWS_SHOWN
    assert "The first 100 of 10,000." in text
    assert len(text) < 3_000_000
    cells, tied, layers, status = rows[1234]
    assert len(cells) == len(COLUMNS)
    assert cells[:3] == [["1,235", 1235], ["[1235, 8]", "1235, 8"], ["98,766", 98766]]
    assert (layers, status) == (document["all_results"][1234]["num_layers"], "ok")
    assert tied == document["all_results"][1234]["tied"]


def test_rows_hold_what_the_results_say() -> None:
    document = make_document()
    rows = page_of(document).rows()
    entries = document["all_results"]
    for place, name in ((0, "rank"), (2, "model_params"), (3, "final_test_loss"), (4, "difference_to_best")):
        assert [row[0][place][1] for row in rows] == [entry[name] for entry in entries]
    standings = {row[0][1][0]: row[0][7][0] for row in rows}
    assert standings["[64, 64]"] == "tied, best measured"
    assert standings["[64]"] == "tied, recommended"
    assert standings["[16]"] == "ruled out"
    assert rows[-1][0][7][0] == ""
    assert rows[-1][3] == "failed"


def test_without_a_verdict_none_is_recommended() -> None:
    rows = page_of(make_document("one repeat")).rows()
    assert [row[0][7][0] for row in rows] == ["best measured"] + [""] * 8


STUDY = {
    "statement": ["Study at 4 epochs: of <2>", "  dropout instead of 0.1: 0 -0.0049", "", "  A lower loss"],
    "epochs": 4,
    "main_effects": [{"factor": "dropout", "level": 0, "effect": -0.00491}],
    "factors": [
        {"name": "dropout", "levels": [0.0, 0.1]},
        {"name": "input_normalization", "levels": ["layer", "none"]},
    ],
    "configurations": [[64], [32]],
}
ENSEMBLE = {
    "configurations": 2,
    "members": [{}, {}, {}],
    "test_loss": 0.0321,
    "mean_member_test_loss": 0.0411,
    "best_single": {"config": [64, 64], "test_loss": 0.0401},
    "difference": -0.008,
    "difference_interval": [-0.0091, -0.0069],
    "mean_agreement": 0.9123,
}


def test_a_study_has_a_section_and_its_picture_words() -> None:
    document = {**make_document(), "study": STUDY}
    text = html_report(document, {"study_plot": PNG})
    assert '<p class="headline">Study at 4 epochs: of &lt;2&gt;</p>' in text
    assert "<li><b>Dropout instead of 0.1:</b> 0 -0.0049</li><li>A lower loss</li>" in text
    assert "What each option changes in the loss after 4 epochs: dropout 0 by -0.0049." in text
    assert 'id="study"' not in html_report({**document, "study": None}, {})


def test_pictures_of_the_latent_space_are_put_into_words() -> None:
    document = copy.deepcopy(make_document())
    alts = {name: picture.alt(document) for name, picture in PICTURES.items() if name in DRAWN}
    assert alts["axes_plot"] == (
        "Correlations of 2 latent dimensions with 3 columns: dimension 1 goes most with Ind (-0.75)."
    )
    assert alts["reconstruction_plot"].endswith("of 3 columns on 401 test rows: model 0.50 and pca 0.25.")
    assert "2 labels of Cluster" in alts["agreement_plot"]
    assert alts["agreement_plot"].endswith("latent 0.62, pca 0.62 and columns 0.62; always the commonest label: 0.38.")
    document["latent_space"]["axes"]["correlations"] = {"L": [None, None]}
    assert PICTURES["axes_plot"].alt(document) == "Correlations of 2 latent dimensions with 1 column: nothing."
    assert alts["clusters_plot"] == "The latent space by 2 clusters, of 1,500 and 508 rows."


def test_an_ensemble_has_a_section() -> None:
    document = {**make_document(), "ensemble": ENSEMBLE}
    text = html_report(document, {})
    assert "3 models of 2 configurations as one" in text
    assert "test loss 0.0321, against 0.0401 of the best single model, [64, 64]: -0.0080 [-0.0091, -0.0069]" in text
    assert 'id="ensemble"' not in html_report({**document, "ensemble": None}, {})


def test_a_finished_run_leaves_its_report(finished: Run) -> None:
    text = (finished.folder / "report_latent3.html").read_text(encoding="utf-8")
    document = finished.results()
    drawn = {name: (finished.folder / path.name) for name, path in output_files(Path(), 3)._asdict().items()}
    pictures = {name: drawn[name].read_bytes() for name in PICTURES if drawn[name].exists()}
    assert len(pictures) == 8
    assert text == html_report(document, pictures)
    assert f"\nReport: {finished.folder / 'report_latent3.html'}\n" in finished.out

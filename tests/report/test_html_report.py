"""The HTML report is complete, bounded in size, and safe whatever the table holds.

How it behaves in a browser is tested in test_html_browser.py.
"""

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
from documents import DEFAULTS, DRAWN, ENSEMBLE, KINDS, MODES, PNG, STUDY, html_of, make_document, make_mode
from jinja2 import UndefinedError
from markupsafe import escape

from layersearch.report.html.page import TEMPLATES, html_report
from layersearch.report.html.pictures import PICTURES
from layersearch.report.html.table import COLUMNS, ROWS_SHOWN
from layersearch.report.output_files import output_files
from layersearch.report.references import sources
from layersearch.space.naming import name_of
from layersearch.words import NOT_YET_WORTH, readable, short

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
    """What a parser finds: tags with the names of their attributes, texts, the levels of headings, and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
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
        else:
            self.texts.append(data)

    def rows(self) -> list[Any]:
        """The rows of the table as the script gets them."""
        rows: list[Any] = json.loads(self.scripts[0])["rows"]
        return rows


def page_of(document: dict[str, Any], names: Any = ()) -> Page:
    return Page(html_of(document, names))


def with_flags(text: str) -> str:
    """The HTML of a text that names flags of the command."""
    shown = TEMPLATES.from_string("{% from 'macros.html.j2' import with_flags %}{{ with_flags(text) }}")
    return shown.render(text=text)


def pictures_of(kind: str) -> list[str]:
    """The pictures that such a search draws."""
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
    text = html_of(document)
    first, *rest = document["verdict"]["statement"]
    assert 0 < text.index(escape(first.removeprefix("Verdict: "))) < text.index("Keep in mind</h2>")
    for line in rest:
        lead, _, words = line.strip().partition(": ")
        assert escape(words or lead).partition("--")[0] in text


def test_no_winner_is_named_in_the_title() -> None:
    text = html_of(make_document())
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
    text = html_of(make_document(kind))
    for words in SAID[kind]:
        assert words in text
    for other in {"Not proven", "Interrupted", "No verdict", "Synthetic data"} - set(SAID[kind]):
        assert f"<b>{other}</b>" not in text


def test_synthetic_data_and_unbeaten_baselines_are_said() -> None:
    document = make_document()
    document["data"]["synthetic"] = True
    for place in (2, 3):
        document["verdict"]["baselines"][place]["not_beaten_by"] = 8
    text = html_of(document)
    assert "<b>Synthetic data</b>" in text
    assert "<b>Not beaten: PCA with 3 components</b>" in text
    assert NOT_YET_WORTH in re.sub("</?code>", "", text)
    for place in (2, 3):
        document["verdict"]["baselines"][place]["not_beaten_by"] = 5
    assert "Not beaten:" not in html_of(document)
    assert "<dd>beaten by 3 of 8</dd>" in html_of(document)


def texts_replaced(value: Any, text: str, *, keep: Any = ("config", "status", "timestamp", "kind", "strategy")) -> Any:
    """The document with `text` in place of every text, except where the program chooses from a few."""
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
    found = page_of(hostile, DRAWN)
    assert found.tags == page_of(tame, DRAWN).tags
    assert readable(text) in found.texts  # as it is, among the values
    assert f"failed: {text}" in [row[0][-1][0] for row in found.rows()]
    page = html_of(hostile)
    assert not re.search("[\x00-\x08\x0b-\x1f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200f]", page)


def test_templates_refuse_a_value_that_is_missing() -> None:
    with pytest.raises(UndefinedError):
        TEMPLATES.from_string("{{ view.nothing }}").render(view={})


def test_nothing_but_pictures_and_escaped_text_is_put_into_the_page_unescaped() -> None:
    """Filters after which Jinja2 escapes no more; the style sheet and the script are marked in Python."""
    used = []
    for name in TEMPLATES.list_templates():
        text, _, _ = TEMPLATES.loader.get_source(TEMPLATES, name)  # type: ignore[union-attr]
        used += re.findall(r"{{[^}]*\| *(?:safe|escape|e|tojson)\b[^}]*}}|{% *autoescape[^%]*%}", text)
    assert sorted(used) == ["{{ picture.data | safe }}", "{{ view.bibtex | escape }}", "{{ view.data | tojson }}"]


def test_what_would_not_be_seen_is_spelt_out() -> None:
    assert readable("a\u202eb\nc\u2028é") == r"a\u202eb\u000ac\u2028é"
    assert TEMPLATES.from_string("{{ text }}").render(text='<a "\u202e">&') == r"&lt;a &#34;\u202e&#34;&gt;&amp;"
    assert with_flags("<; --cv_folds 5 gives") == "&lt;; <code>--cv_folds 5</code> gives"
    assert short(1e-06) == "1e-6"
    assert (
        name_of({"config": [[64, 32], [16, 64]], "options": {"dropout": 0.3}}) == "[64, 32] -> [16, 64] (dropout 0.3)"
    )


def test_null_wherever_it_may_be_is_a_dash_or_nothing() -> None:
    document = make_document("one repeat")
    for entry in document["all_results"]:
        entry |= dict.fromkeys(("final_test_loss_sd", "difference_interval", "tied"))
    document["environment"] |= dict.fromkeys(("git_commit", "device_name", "optuna"))
    document["verdict"] |= {"probe": None, "optimism": None, "baselines": []}
    document["search"] = None
    page = html_of(document, DRAWN)
    assert not re.search(r"\b(None|nan|NaN|null)\b", re.sub("<script.*?</script>", "", page, flags=re.DOTALL))


def test_the_page_may_fetch_nothing_and_run_nothing_but_its_own() -> None:
    text = html_of(make_document(), DRAWN)
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


def test_a_reference_is_a_link_to_its_address_or_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layersearch.report.html.page.cited", lambda paragraphs: sources())
    text = html_of(make_document()).partition('id="references">')[2].partition("</ol>")[0]
    entries = text.strip().split("\n")
    assert len(entries) == len(sources())
    for source, entry in zip(sources(), entries, strict=True):
        addresses = re.findall('href="([^"]*)"', entry)
        assert addresses == ([escape(source.link)] if source.link else [])
        assert all(address.startswith("https://") for address in addresses)
        assert entry.startswith(f"<li>{escape(source.entry)}")


def test_pictures_are_in_the_file_with_their_size() -> None:
    page = page_of(make_document(), ["verdict_plot"])
    (image,) = [attributes for tag, attributes in page.attributes if tag == "img"]
    assert (image["width"], image["height"]) == ("1400", "1000")
    assert base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,")) == PNG


def test_every_picture_that_is_written_is_shown() -> None:
    fields = output_files(Path("output"), 3)._asdict()
    assert {name for name, path in fields.items() if path.suffix == ".png"} == set(PICTURES)


def many(n: int) -> dict[str, Any]:
    """The document of a search of `n` configurations."""
    document = make_document()
    entries = document["all_results"]
    document["all_results"] = [
        {**entries[rank % 7 if rank else 0], "rank": rank + 1, "model_params": 10 * n - rank, "config": [rank + 1, 8]}
        for rank in range(n)
    ]
    return document


def test_ten_thousand_configurations_are_all_in_the_data_and_the_first_hundred_in_the_table() -> None:
    document = many(10_000)
    text = html_of(document)
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
    standings = {row[0][1][0]: row[0][6][0] for row in rows}
    assert standings["[64, 64]"] == "tied, best measured"
    assert standings["[64]"] == "tied, recommended"
    assert standings["[16]"] == "ruled out"
    assert rows[-1][0][6][0] == document["all_results"][-1]["status"]
    assert rows[-1][3] == "failed"


def test_without_a_verdict_none_is_recommended() -> None:
    document = make_document("one repeat")
    standing = headings_of(document).index("Standing")
    rows = page_of(document).rows()
    assert [row[0][standing][0] for row in rows] == ["best measured"] + [""] * 8


def headings_of(document: dict[str, Any]) -> list[str]:
    return re.findall('<th scope="col"[^>]*>([^<]*)</th>', html_of(document))


KEPT = ["Rank", "Configuration", "Parameters"]


@pytest.mark.parametrize(
    ("kind", "headings"),
    [
        ("whole", list(COLUMNS)),
        ("one repeat", [*KEPT, "Loss ± SD", "Standing"]),
        ("failed", [*KEPT, "Standing"]),
    ],
)
def test_a_column_that_says_nothing_is_left_out(kind: str, headings: list[str]) -> None:
    document = make_document(kind)
    assert headings_of(document) == headings
    assert {len(row[0]) for row in page_of(document).rows()} == {len(headings)}
    note = html_of(document).partition('id="configurations-note">')[2].partition("</p>")[0]
    for word in ("SD", "Difference", "interval"):
        assert (word in note) == any(word.lower() in heading.lower() for heading in headings)


def test_a_study_has_a_section_and_its_picture_words() -> None:
    document = {**make_document(), "study": STUDY}
    text = html_of(document, ["study_plot"])
    assert '<p class="headline">Study at 4 epochs: of &lt;2&gt;</p>' in text
    assert "<li><b>dropout 0 instead of 0.1:</b> -0.0049</li>\n<li>A lower loss</li>" in text
    assert (
        "the loss after 4 epochs: dropout 0 by -0.0049, weight_decay 0.01 by +0.0011 and normalization none by" in text
    )
    assert 'id="study"' not in html_of({**document, "study": None})


def test_every_effect_stands_out_and_no_sentence_does() -> None:
    lines = [
        "  input_normalization none instead of layer: +0.0009 [-0.0011, +0.0029]",
        "  No interaction can be told (the strongest: dropout 0 with normalization none, +0.0031).",
    ]
    document = {**make_document(), "study": {**STUDY, "statement": ["Study", *lines]}}
    text = html_of(document)
    assert "<li><b>input_normalization none instead of layer:</b> +0.0009 [-0.0011, +0.0029]</li>" in text
    assert "<li>No interaction can be told (the strongest: dropout 0" in text


def test_a_card_has_the_layers_large_and_the_options_as_details() -> None:
    document = make_document()
    measured, recommended = (document["verdict"][name] for name in ("best_measured", "recommended"))
    measured["options"] = {"weight_decay": 1e-06, "input_normalization": "layer"}
    recommended |= {"config": measured["config"], "options": {**measured["options"], "input_normalization": "none"}}
    text = html_of(document)
    card = '<dd class="main">[64, 64]</dd>\n<dd>weight_decay 1e-06</dd>\n<dd>input_normalization layer</dd>\n<dd>loss'
    assert card in text
    assert "Recommended: smallest within 5 %" in text
    assert "<dd>input_normalization none</dd>" in text


def test_the_card_of_the_best_has_the_interval_by_rows_and_trainings() -> None:
    document = make_document()
    low, high = document["verdict"]["best_measured_interval"]
    assert f"<dd>95 % interval {low:.4f} to {high:.4f}</dd>" in html_of(document)
    assert "% interval" not in html_of(make_document("one repeat")).partition("Keep in mind")[0]


def test_pictures_of_the_latent_space_are_put_into_words() -> None:
    document = copy.deepcopy(make_document())
    alts = {name: describe(document).alt for name, describe in PICTURES.items() if name in DRAWN}
    assert alts["axes_plot"] == (
        "Correlations of 3 latent dimensions with 3 columns: dimension 1 goes most with L (+0.81) and dimension 2 goes "
        "most with Ind (-0.44)."
    )
    assert alts["reconstruction_plot"].endswith("of 3 columns on 401 test rows: model 0.27 and pca 0.45.")
    assert "2 labels of Cluster" in alts["agreement_plot"]
    assert alts["agreement_plot"].endswith("latent 0.53, pca 0.58 and columns 0.64; always the commonest label: 0.50.")
    document["latent_space"]["axes"]["correlations"] = {"L": [None, None, None]}
    assert PICTURES["axes_plot"](document).alt == "Correlations of 3 latent dimensions with 1 column: nothing."
    assert alts["clusters_plot"] == "The latent space by 2 clusters, of 1,200 and 808 rows."


def test_an_ensemble_has_a_section() -> None:
    document = {**make_document(), "ensemble": ENSEMBLE}
    text = html_of(document)
    assert "3 models of 2 configurations as one" in text
    assert "test loss 0.0321, against 0.0401 of the best single model, [64, 64]: -0.0080 [-0.0091, -0.0069]" in text
    assert 'id="ensemble"' not in html_of({**document, "ensemble": None})


@pytest.mark.parametrize("mode", MODES)
def test_any_mode_has_a_report(mode: str) -> None:
    document = make_mode(mode)
    page = page_of(document, [*DRAWN, "study_plot"] if document.get("study") else DRAWN)
    ids = [attributes["id"] for _, attributes in page.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("mode", "encoder"), [("start", "trained on"), ("frozen", "kept as it was")])
def test_a_start_from_a_saved_model_is_kept_in_mind_and_named(mode: str, encoder: str) -> None:
    document = make_mode(mode)
    text = html_of(document)
    assert "<b>Started from a saved model</b> All trainings" in text
    assert "The verdict holds for this start alone:" in text
    assert "it may have seen some that test here" in text
    block = text.partition("<h3>Started from</h3>")[2].partition("<h3>")[0]
    for words in ("a/b.pth", "cd" * 32, "[64, 32], 3 latent dimensions, 4,321 parameters", "2,468, by [64", encoder):
        assert words in block
    assert "that model&#39;s" in block
    assert "Started from" not in html_of(make_document())


def test_the_stage_that_chose_is_told_with_the_search() -> None:
    document = make_mode("best crossed")
    document["all_results"] = document["all_results"][:2]
    block = html_of(document).partition("<h3>Search</h3>")[2].partition("<h3>")[0]
    assert "<dt>First stage</dt><dd><bdi>halving: 3 configurations tried, 2 trained to the end</bdi>" in block
    assert "the best 2 crossed, trained anew" in block
    assert "First stage" not in html_of(make_mode("study"))


def test_advice_without_its_time_does_not_break_off() -> None:
    document = copy.deepcopy(make_document())
    document["verdict"]["statement"][-1] = "  Too short: the loss falls; --epochs 150."
    text = html_of(document)
    assert "<b>Too short:</b> the loss falls; give <code>--epochs 150</code>.</li>" in text
    document["verdict"]["statement"][-1] = "  Too short: the loss falls; --epochs 150 takes about 44 s."
    assert "falls; <code>--epochs 150</code> takes about 44 s.</li>" in html_of(document)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("comes with --normalization none.", "--normalization none"),
        ("with --dropout 0.25 here", "--dropout 0.25"),
        ("with --weight_decay 1e-06.", "--weight_decay 1e-06"),
        ("--epochs 150.", "--epochs 150"),
        ("--ensemble tied: x", "--ensemble tied"),
        ("more --dropout or so", "--dropout"),
        ("--study_configs anyhow", "--study_configs"),
    ],
)
def test_the_value_of_a_flag_is_code_too_and_nothing_more(text: str, code: str) -> None:
    assert f"<code>{code}</code>" in with_flags(text)


def test_flags_and_options_are_not_capitalised() -> None:
    document = copy.deepcopy(make_document())
    document["data"]["notices"] = ["--scaling robust is used", "dropout is high", "a column is constant"]
    text = html_of(document)
    for words in ("<code>--scaling robust</code> is used", ">dropout is high", ">A column is constant"):
        assert words in text


def test_an_ensemble_is_said_once() -> None:
    document = {**make_document(), "ensemble": ENSEMBLE}
    document["verdict"]["statement"].append("  Ensemble of 3 models (2 tied configurations): test loss 0.0321")
    text = html_of(document).partition('<section id="methods"')[0]
    assert "Ensemble of 3 models" not in text
    assert text.count("3 models of 2 configurations") == 1


def caption_of(name: str, document: dict[str, Any]) -> str:
    return PICTURES[name](document).caption


def test_captions_speak_only_of_what_is_drawn() -> None:
    whole, once, alone = (make_document(kind) for kind in ("whole", "one repeat", "one configuration"))
    assert "with its interval" in caption_of("verdict_plot", whole)
    assert "There are no intervals" in caption_of("verdict_plot", once)
    assert "tied" not in caption_of("verdict_plot", once) + caption_of("verdict_plot", alone)
    words = "with ± 1 standard deviation over the repeats, the band of the tied and the baselines."
    assert words in caption_of("configurations_plot", whole)
    assert caption_of("configurations_plot", whole).endswith("Pareto front, within the noise.")
    assert "standard deviation" not in caption_of("configurations_plot", once)
    assert "tied" not in caption_of("configurations_plot", once) + caption_of("configurations_plot", alone)
    assert caption_of("configurations_plot", once).endswith("Pareto front, as measured.")
    assert "best 5" in caption_of("search_plot", whole)
    assert "one configuration" in caption_of("search_plot", alone)
    assert "There is no SD" in html_of(once)
    assert "There is no SD" not in html_of(whole)


def test_the_front_of_other_objectives_is_not_told_as_one_of_sizes() -> None:
    document = copy.deepcopy(make_document())
    document["verdict"]["objectives"] = ["loss", "time"]
    caption = caption_of("configurations_plot", document)
    assert "weighs loss and time" in caption
    assert "smaller" not in caption


@pytest.mark.parametrize(
    ("latent_dim", "words"),
    [(1, "by label."), (2, "by label."), (4, "Every two of the 4 dimensions."), (9, "two principal components.")],
)
def test_the_picture_of_the_latent_space_is_told_for_its_size(latent_dim: int, words: str) -> None:
    document = make_document("whole", ["--latent_dim", str(latent_dim)])
    assert caption_of("latent_plot", document).endswith(words)


def test_the_caption_of_a_study_has_intervals_only_where_it_has() -> None:
    document = {**make_document(), "study": copy.deepcopy(STUDY)}
    assert "with intervals that hold together; and the strongest interaction." in caption_of("study_plot", document)
    document["study"] |= {"strongest_interaction": None, "configurations": [[64]]}
    for effect in document["study"]["main_effects"]:
        effect["interval"] = None
    assert caption_of("study_plot", document) == (
        "The change in loss that each level brings against the reference, without intervals, since luck is not known. "
        "At other lengths of training the answer may differ."
    )


def test_a_finished_run_leaves_its_report(finished: Run) -> None:
    text = (finished.folder / "report_latent3.html").read_text(encoding="utf-8")
    document = finished.results()
    drawn = {name: (finished.folder / path.name) for name, path in output_files(Path(), 3)._asdict().items()}
    pictures = {name: drawn[name].read_bytes() for name in PICTURES if drawn[name].exists()}
    assert len(pictures) == 8
    assert text == html_report(document, pictures, DEFAULTS)
    assert f"\nReport: {finished.folder / 'report_latent3.html'}\n" in finished.out

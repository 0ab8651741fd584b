"""How the HTML report behaves in a browser: sorting, filtering, keyboard, widths, print, dark mode, no requests.

The tests use headless Chromium and are skipped where there is none (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documents import DRAWN, html_of, make_document
from test_html_report import HOSTILE, many, texts_replaced

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
RENDERED = "el => getComputedStyle(el)"
ROWS = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests, which are skipped where none is installed."""
    programs = [found for name in NAMES if (found := shutil.which(name))]
    if not programs:
        pytest.skip("no Chromium here (on Debian: apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=programs[0], args=["--no-sandbox"])
        yield browser
        browser.close()


Opener = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens a report from a file; checks at the end that it requested nothing else and logged no message or error."""
    seen: list[str] = []
    contexts = []

    def open_report(document: dict[str, Any], **options: Any) -> Page:
        path = tmp_path / "report.html"
        path.write_text(html_of(document, DRAWN if document["verdict"] else []), encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        address = path.as_uri()
        page.on("request", lambda r: None if r.url == address or r.url.startswith("data:") else seen.append(r.url))
        page.goto(address)
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert seen == []


def rows_of(page: Page) -> list[list[str]]:
    rows: list[list[str]] = page.locator("#configurations-table tbody tr").evaluate_all(ROWS)
    return rows


def column(page: Page, place: int) -> list[str]:
    return [row[place] for row in rows_of(page)]


def sort_by(page: Page, heading: str) -> None:
    page.locator("thead").get_by_role("button", name=heading).click()


def test_the_page_is_quiet_and_asks_for_nothing(opened: Opener) -> None:
    page = opened(make_document())
    assert page.title() == "Hidden layers for a latent space of 3 dimensions"
    loaded = page.locator("img").evaluate_all("images => images.map(image => image.complete && image.naturalWidth)")
    assert loaded == [1400] * len(DRAWN)


@pytest.mark.parametrize("kind", ["one repeat", "failed", "nothing"])
def test_a_search_without_a_verdict_is_quiet_too(opened: Opener, kind: str) -> None:
    page = opened(make_document(kind))
    assert page.get_by_role("button", name="Copy the text").is_visible()


def test_a_hostile_table_runs_nothing(opened: Opener) -> None:
    document = make_document()
    hostile = texts_replaced(document, " ".join(HOSTILE))
    hostile["args"] = {**document["args"], "data_path": HOSTILE[3]}
    page = opened(hostile)
    assert page.locator("script").count() == 2
    assert page.locator("img").count() == len(DRAWN)
    assert len(rows_of(page)) == 9


def test_numbers_are_sorted_as_numbers_and_what_is_missing_comes_last(opened: Opener) -> None:
    document = make_document()
    for entry, difference in zip(document["all_results"], (0.5, 0.1234, -0.25, 1e-07), strict=False):
        entry["difference_to_best"] = difference
    page = opened(document)
    sort_by(page, "Difference")
    assert column(page, 4)[:2] == ["-0.2500", "+0.0000"]
    sort_by(page, "Difference")
    assert column(page, 4)[:2] == ["+0.5000", "+0.1234"]
    sort_by(page, "Parameters")
    sizes = [int(size.replace(",", "")) for size in column(page, 2)]
    assert sizes == sorted(sizes)
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Parameters")
    sort_by(page, "Parameters")
    assert [int(size.replace(",", "")) for size in column(page, 2)] == sorted(sizes, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Parameters")
    for _ in range(2):
        sort_by(page, "Loss")
        assert column(page, 3)[-1] == "–"
    sort_by(page, "Configuration")
    assert column(page, 1)[:3] == ["[16]", "[16, 16]", "[32]"]


def test_equal_rows_stay_in_the_order_of_the_ranking_both_ways(opened: Opener) -> None:
    page = opened(make_document())
    for first in ("failed", "tied, recommended"):
        sort_by(page, "Standing")
        assert column(page, 6)[0].startswith(first)
        ranks = [int(row[0]) for row in rows_of(page) if row[6] == "ruled out"]
        assert ranks == sorted(ranks)


def test_rows_can_be_filtered_in_four_ways_and_all_at_once(opened: Opener) -> None:
    page = opened(make_document())
    shown = page.locator("#shown")
    assert shown.inner_text() == "Rows 1 to 9 of 9"
    page.get_by_label("Tied only").check()
    assert column(page, 1) == ["[64, 64]", "[64]"]
    assert shown.inner_text() == "Rows 1 to 2 of 2 (filtered from 9)"
    page.get_by_label("Hidden layers").select_option("1")
    assert column(page, 1) == ["[64]"]
    page.get_by_label("Tied only").uncheck()
    assert column(page, 1) == ["[64]", "[32]", "[16]"]
    page.get_by_label("Hidden layers").select_option("any")
    page.get_by_label("Text in any column").fill("[32,")
    assert sorted(column(page, 1)) == ["[32, 16]", "[32, 32]"]
    page.get_by_label("Text in any column").fill("")
    page.get_by_label("Status").select_option("failed")
    assert column(page, 1) == ["[16, 16]"]
    page.get_by_label("Text in any column").fill("no such text")
    assert shown.inner_text() == "No configuration fits (filtered from 9)"
    assert rows_of(page) == []


@pytest.mark.parametrize("typed", ["12491", "12,491", "12,4"])
def test_a_number_is_found_with_and_without_separators(opened: Opener, typed: str) -> None:
    page = opened(make_document())
    page.get_by_label("Text in any column").fill(typed)
    assert column(page, 2) == ["12,491"]


def test_a_filter_with_one_choice_is_not_there(opened: Opener) -> None:
    page = opened(make_document("one configuration"))
    assert page.get_by_label("Text in any column").is_visible()
    assert not page.get_by_label("Hidden layers").is_visible()
    assert not page.get_by_label("Status").is_visible()


def test_ten_thousand_rows_come_a_hundred_at_a_time(opened: Opener) -> None:
    page = opened(many(10_000))
    assert len(rows_of(page)) == 100
    page.get_by_role("button", name="Next").click()
    assert column(page, 0)[0] == "101"
    assert page.locator("#shown").inner_text() == "Rows 101 to 200 of 10,000"
    sort_by(page, "Parameters")
    assert column(page, 0)[:2] == ["10,000", "9,999"]
    assert page.get_by_role("button", name="Previous").is_disabled()
    page.get_by_label("Text in any column").fill("[9999, 8]")
    assert column(page, 0) == ["9,999"]


def test_everything_is_reached_by_keyboard_and_seen_to_be(opened: Opener) -> None:
    page = opened(make_document())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    assert page.locator(":focus").bounding_box()["x"] >= 0  # type: ignore[index]
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        width = page.evaluate(f"({RENDERED})(document.activeElement).outlineWidth")
        assert width == "3px", reached[-1]
        if reached[-1] == "Parameters":
            page.keyboard.press("Enter")
            assert column(page, 2)[0] == "1,035"
            page.keyboard.press("Space")
            assert column(page, 2)[0] == "12,491"
        if reached[-1] == "Copy the command":
            break
    assert {"Verdict", "filter-text", "filter-tied", "Rank", "Standing", "Copy the text", "bibtex"} <= set(reached)


@pytest.mark.parametrize("width", [375, 768, 1280, 1920])
def test_nothing_is_wider_than_the_window(opened: Opener, width: int) -> None:
    document = make_document()
    document["data"]["columns"] = ["a_column_with_a_name_" * 20, "Cc"]
    document["args"]["output_dir"] = "/somewhere" * 40
    page = opened(document, viewport={"width": width, "height": 800})
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    box = page.locator("main").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def with_options(kind: str) -> dict[str, Any]:
    """The document of a search whose configurations have all options that a study may cross."""
    document = make_document(kind)
    options = {"dropout": 0.1, "weight_decay": 1e-06, "normalization": "none", "input_normalization": "layer"}
    verdict = document["verdict"]
    for entry in (*document["all_results"], verdict["best_measured"], verdict["recommended"]):
        entry["options"] = options
    return document


@pytest.mark.parametrize("width", [1200, 1920])
@pytest.mark.parametrize("document", [make_document(), make_document("halving"), with_options("halving")])
def test_the_table_is_all_in_sight_on_a_wide_screen(opened: Opener, width: int, document: dict[str, Any]) -> None:
    scroller = opened(document, viewport={"width": width, "height": 800}).locator(".scroll")
    assert scroller.evaluate("el => el.scrollWidth - el.clientWidth") == 0
    assert scroller.get_attribute("class") == "scroll"


@pytest.mark.parametrize("document", [make_document(), with_options("whole")])
def test_on_a_narrow_screen_more_columns_are_hinted_at(opened: Opener, document: dict[str, Any]) -> None:
    page = opened(document, viewport={"width": 375, "height": 800})
    page.locator(".scroll.more").wait_for()
    names = page.locator("tbody th").first.bounding_box()
    assert names is not None
    assert names["width"] < 375 / 2  # they stay in sight
    page.locator(".scroll").evaluate("el => el.scrollTo(el.scrollWidth, 0)")
    page.locator(".scroll:not(.more)").wait_for()


def test_a_picture_opens_at_its_full_size_by_keyboard_and_escape_closes_it(opened: Opener) -> None:
    page = opened(make_document(), viewport={"width": 375, "height": 700})
    button = page.locator("figure button").first
    button.press("Enter")
    large = page.locator("dialog img")
    assert large.evaluate("image => image.clientWidth") == 1400
    assert large.get_attribute("alt") == page.locator("figure img").first.get_attribute("alt")
    page.keyboard.press("ArrowRight")
    scrolled = "el => el.scrollLeft > 0 || new Promise(done => el.addEventListener('scroll', () => done(true)))"
    assert page.locator("dialog").evaluate(scrolled)
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert button.evaluate("el => el === document.activeElement")
    button.click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("dialog").is_visible()


def luminance(colour: str) -> float:
    """Relative luminance of a colour such as `rgb(1, 2, 3)`, as WCAG 2.2 defines it."""
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_the_light_and_in_the_dark(opened: Opener, scheme: Any) -> None:
    page = opened(make_document(), color_scheme=scheme)
    background = """el => { while (getComputedStyle(el).backgroundColor === "rgba(0, 0, 0, 0)") el = el.parentElement;
                            return getComputedStyle(el).backgroundColor }"""
    for place in ("h1", ".about", "nav a", ".cards dt", ".cards dd.main", ".statement code", "figcaption", "tr.tied td",
                  "thead button", ".note", ".methods p", ".references a", ".values dt", ".pager span"):  # fmt: skip
        element = page.locator(place).first
        ink, paper = (
            luminance(element.evaluate(f"el => ({RENDERED})(el).color")),
            luminance(element.evaluate(background)),
        )
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, place
    page_colour = luminance(page.locator("body").evaluate(background))
    assert page_colour > 0.9 if scheme == "light" else page_colour < 0.05
    assert page.locator("img").first.evaluate(background) == "rgb(255, 255, 255)"


def test_print_is_light_and_leaves_out_what_only_a_screen_can_use(opened: Opener) -> None:
    page = opened(make_document(), color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(f"({RENDERED})(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert luminance(page.evaluate(f"({RENDERED})(document.body).color")) < 0.05
    for hidden in ("nav", ".controls", "#next", ".copy", "#bibtex"):
        assert not page.locator(hidden).first.is_visible()
    for shown in ("h1", "#configurations-table", "#shown", "#methods-text", "#references"):
        assert page.locator(shown).is_visible()
    page.set_viewport_size({"width": 375, "height": 800})
    page.locator(".scroll.more").wait_for()
    assert page.locator(".scroll").evaluate(f"el => ({RENDERED})(el).maskImage") == "none"
    assert page.locator("figure").first.evaluate(f"el => ({RENDERED})(el).breakInside") == "avoid"
    for place in ("#configurations h2", "#configurations-note"):
        assert page.locator(place).evaluate(f"el => ({RENDERED})(el).breakAfter") == "avoid"
    tallest = page.locator("figure img").evaluate_all("images => Math.max(...images.map(image => image.clientHeight))")
    assert tallest < 330  # CSS pixels; two stand on a page


def test_without_javascript_the_first_rows_are_there_and_no_dead_button(opened: Opener) -> None:
    page = opened(many(150), java_script_enabled=False)
    assert page.locator("#configurations-table tbody tr").count() == 100
    assert page.locator("button:visible, input:visible, select:visible").count() == 0
    assert page.get_by_text("The first 100 of 150. Sorting and filtering need JavaScript.").is_visible()


def test_the_script_makes_the_rows_that_were_there_without_it(opened: Opener) -> None:
    rows = "rows => rows.map(row => row.outerHTML)"
    document = make_document("halving")
    without = opened(document, java_script_enabled=False).locator("tbody tr").evaluate_all(rows)
    page = opened(document)
    page.locator("#shown").wait_for()
    assert [row.replace(' class=""', "") for row in page.locator("tbody tr").evaluate_all(rows)] == without


def test_the_methods_are_copied_or_else_selected(opened: Opener) -> None:
    page = opened(make_document())
    page.evaluate("""navigator.clipboard.writeText = async text => { window.copied = text }""")
    page.get_by_role("button", name="Copy the text").press("Enter")
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("copied").startswith("The data were 2,008 observations of 3 COPUS codes")
    page.evaluate("navigator.clipboard.writeText = async () => { throw new Error }; document.execCommand = () => false")
    page.get_by_role("button", name="Copy the BibTeX").press("Enter")
    page.get_by_text("Selected: copy it with").wait_for()
    assert page.evaluate("String(getSelection())").startswith("@article{ba2016,")


def test_less_motion_is_respected(opened: Opener) -> None:
    page = opened(make_document(), reduced_motion="reduce")
    assert page.evaluate(f"({RENDERED})(document.documentElement).scrollBehavior") == "auto"

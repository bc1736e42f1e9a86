"""The page in a browser: sorting, filters, dialogs, pictures, the dark, a phone, and no network."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SECTIONS = (
    "runs", "dynamics", "ablations", "tables", "alignment", "trajectory", "entropy", "samples",
)  # fmt: skip
VISIBLE_ROWS = "#rows tr:not([hidden])"
DARK = "rgb(20, 22, 25)"


@pytest.fixture(scope="module")
def noise() -> list[str]:
    """Errors of the page and addresses that it asked for, from its first moment on."""
    return []


@pytest.fixture(scope="module")
def loaded(chromium, report, noise):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport=DESKTOP, color_scheme="light")
        page.on("console", lambda m: noise.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda asked: noise.append(asked.url))
        page.set_default_timeout(10_000)
        page.goto(report.as_uri())
        yield page
        browser.close()


@pytest.fixture
def page(loaded):
    """The one page, as it was when it was loaded."""
    yield loaded
    loaded.keyboard.press("Escape")
    loaded.fill("#filter", "")
    loaded.select_option("#kind", "")
    loaded.set_viewport_size(DESKTOP)
    loaded.emulate_media(color_scheme="light")


def sort_by(page, title: str) -> tuple[str, list[tuple[str | None, str]]]:
    """Click a column's head; its direction, and (value, letter) of its cells from the top."""
    button = page.locator(".sort", has_text=re.compile(f"^{title}$"))
    head = page.locator("#summary thead th").filter(has=button)
    button.click()
    column = head.evaluate("head => head.cellIndex")
    cells = page.eval_on_selector_all(
        "#rows tr",
        f"rows => rows.map(row => row.cells[{column}].dataset)"
        ".map(data => [data.value ?? null, data.letter ?? ''])",
    )
    return head.get_attribute("aria-sort"), [tuple(cell) for cell in cells]


def names(page) -> list[str]:
    return page.locator(f"{VISIBLE_ROWS} .open").all_inner_texts()


@pytest.mark.parametrize("title", ["Images", "PSNR", "FD-digits-cnn", "latent std"])
def test_numbers_sort_both_ways_with_empty_cells_last(page, title):
    for direction, sign in (("ascending", 1), ("descending", -1)):
        found, cells = sort_by(page, title)
        assert found == direction
        values = [(letter, sign * float(value)) for value, letter in cells if value is not None]
        assert len(values) > 1 and values == sorted(values), "and letters are never mixed"
        assert [value for value, _ in cells[len(values) :]] == [None] * (len(cells) - len(values))


def test_letters_sort_both_ways_and_numbers_in_names_count_as_numbers(page):
    _, rising = sort_by(page, "Run")
    _, falling = sort_by(page, "Run")
    assert falling == rising[::-1]
    ordered = [name for name, _ in rising]
    assert ordered.index("F = 1, shared, seed 0") < ordered.index("F = 14, shared, seed 0")
    assert ordered.index("digits-base") < ordered.index("digits-long")


def test_the_filter_wants_every_word_and_hides_in_all_sections(page, rich):
    page.fill("#filter", "0.7 SIGMA")
    assert set(names(page)) == {"sigma = 0.7, seed 0", "sigma = 0.7, seed 1"}
    page.fill("#filter", rich.good)
    assert names(page) == [rich.good]
    assert page.locator("#count").inner_text().startswith("1 of ")
    assert page.locator("#samples tr:not([hidden])").count() == 1
    assert page.locator("#dynamics figure:not([hidden])").count() == 1
    page.fill("#filter", "no such run")
    assert names(page) == []


def test_runs_and_trials_can_be_told_apart(page, rich):
    page.select_option("#kind", "run")
    assert set(names(page)) == {rich.good, rich.other, rich.broken, rich.many, rich.hostile}
    page.select_option("#kind", "trial")
    assert names(page) and all(" = " in name for name in names(page))


def test_a_click_on_a_number_shows_its_card_and_refuses_other_protocols(page, rich):
    row = page.locator("#rows tr").filter(has_text=rich.good)
    row.get_by_role("button", name="7.988").click()
    text = page.locator("dialog[open]").inner_text()
    for words in (
        "FD-digits-cnn = 7.988",
        "lower is better",
        "num_samples",
        "3,000",
        "2.12: Table",
    ):
        assert words in text, words
    assert "not comparable: num_samples 3,000 / 1,000" in text
    page.click("#close")
    assert page.locator("dialog[open]").count() == 0


def test_a_mean_of_trials_shows_each_of_them(page):
    page.locator("#ablations td .num").first.click()
    dialog = page.locator("dialog[open]")
    assert "2 trials" in dialog.inner_text()
    dialog.locator(".num").first.click()
    assert "Metric card" in page.locator("dialog[open]").inner_text()


def test_a_click_on_a_run_shows_everything_about_it(page, rich):
    page.locator("#rows").get_by_role("button", name=rich.broken).click()
    text = page.locator("dialog[open]").inner_text()
    for words in (rich.broken, "alignment.json", "900 of 38,400", "PSNR", "trajectory"):
        assert words.lower() in text.lower(), words


def test_pictures_show_and_can_be_enlarged(page, collected):
    widths = page.eval_on_selector_all("img", "all => all.map(each => each.naturalWidth)")
    grids = sum(len(run.samples) for run in collected.runs)
    assert len(widths) == grids + 2 and min(widths) > 0
    page.locator("#samples .zoom").first.click()
    assert page.locator("dialog[open] img").evaluate("each => each.naturalWidth") > 0


def test_problems_unfold(page, seen):
    page.locator("#problems summary").click()
    assert page.locator("#problems li").count() == len(seen.problems)
    assert page.locator("#problems li").first.is_visible()


def test_the_dark_is_dark_and_legible(page):
    def colours() -> list[str]:
        style = "getComputedStyle(document.body)"
        return page.evaluate(f"[{style}.backgroundColor, {style}.color]")

    light = colours()
    page.emulate_media(color_scheme="dark")
    paper, ink = colours()
    assert paper == DARK and light[0] == "rgb(255, 255, 255)"
    assert sum(map(int, ink[4:-1].split(","))) > 3 * 200


def test_a_phone_has_everything_and_nothing_is_cut_off(page):
    counts = "['tr', 'svg', 'img', 'figure', 'li'].map(n => document.querySelectorAll(n).length)"
    before = page.evaluate(counts)
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(counts) == before
    for name in SECTIONS:
        assert page.locator(f"#{name} h2").is_visible(), name
        assert page.locator(f'nav a[href="#{name}"]').is_visible(), name
    outside = page.eval_on_selector_all(
        "table, img, svg.chart, p, .bar",
        "all => all.filter(e => !e.closest('.scroll, dialog') && e.getClientRects().length"
        f" && e.getBoundingClientRect().right > {PHONE['width'] + 1}).map(e => e.outerHTML)",
    )
    assert outside == [], "what is wider than the screen scrolls in a box of its own"


def test_a_name_that_is_html_stays_text(page, rich):
    assert rich.hostile in names(page)
    page.locator("#rows").get_by_role("button", name=rich.hostile).click()
    assert page.locator("#dialog-title").inner_text() == rich.hostile
    assert page.locator("img[src=x], b:text-is('bold')").count() == 0


def test_all_this_made_no_error_and_asked_for_nothing(page, noise, report):
    assert [each for each in noise if each != report.as_uri() and each[:5] != "data:"] == []

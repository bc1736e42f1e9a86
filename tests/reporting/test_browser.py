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
A4_LANDSCAPE = {"width": 1047, "height": 718}
"""CSS pixels inside margins of 10 mm."""
SECTIONS = (
    "best", "runs", "dynamics", "ablations", "tables", "alignment", "trajectory", "entropy",
    "samples",
)  # fmt: skip
ROWS = "#summary tbody.runs tr[data-run]"
VISIBLE_ROWS = f"{ROWS}:not([hidden])"
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
    loaded.set_viewport_size(DESKTOP)
    loaded.emulate_media(color_scheme="light")


def sort_by(page, title: str) -> tuple[str, list[list[tuple[str | None, str]]]]:
    """Click a column's head; its direction, and (value, letter) of its cells, group by group."""
    button = page.locator(".sort", has_text=re.compile(f"^{title}$"))
    head = page.locator("#summary thead th").filter(has=button)
    button.click()
    column = head.evaluate("head => head.cellIndex")
    groups = page.eval_on_selector_all(
        "#summary tbody.runs",
        "all => all.map(body => [...body.querySelectorAll('tr[data-run]')]"
        f".map(row => row.cells[{column}].dataset)"
        ".map(data => [data.value ?? null, data.letter ?? '']))",
    )
    return head.get_attribute("aria-sort"), [[tuple(cell) for cell in group] for group in groups]


def names(page) -> list[str]:
    return page.locator(f"{VISIBLE_ROWS} .open").all_inner_texts()


@pytest.mark.parametrize("title", ["Images", "PSNR", "FD-digits-cnn", "latent std"])
def test_numbers_sort_both_ways_within_groups_with_empty_cells_last(page, title):
    for direction, sign in (("ascending", 1), ("descending", -1)):
        found, groups = sort_by(page, title)
        assert found == direction and len(groups) == 3
        assert max(len({value for value, _ in cells}) for cells in groups) > 1
        for cells in groups:
            values = [(letter, sign * float(value)) for value, letter in cells if value is not None]
            assert values == sorted(values), "and letters are never mixed"
            empty = [value for value, _ in cells[len(values) :]]
            assert empty == [None] * (len(cells) - len(values))


def test_letters_sort_both_ways_and_numbers_in_names_count_as_numbers(page):
    _, rising = sort_by(page, "Run")
    _, falling = sort_by(page, "Run")
    assert falling == [group[::-1] for group in rising]
    (trials,) = [
        [n for n, _ in group] for group in rising if "F = 1, shared, seed 0" in dict(group)
    ]
    assert trials.index("F = 1, shared, seed 0") < trials.index("F = 14, shared, seed 0")
    runs = [name for name, _ in rising[0]]
    assert runs.index("digits-base") < runs.index("digits-long")


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


def seen_names(page) -> set[str]:
    """Names of runs that a reader sees: neither filtered out nor folded away."""
    return {each.inner_text() for each in page.locator(f"{ROWS} .open").all() if each.is_visible()}


def test_trials_are_folded_under_their_sweep(page, rich):
    runs = {rich.good, rich.other, rich.broken, rich.many, rich.hostile}
    assert seen_names(page) == runs
    fold = page.get_by_role("button", name=re.compile("^sweep-noise.*: 4 trials$"))
    fold.click()
    assert fold.get_attribute("aria-expanded") == "true"
    assert seen_names(page) - runs == {
        f"sigma = {sigma}, seed {seed}" for sigma in (0.0, 0.7) for seed in (0, 1)
    }
    fold.click()
    assert seen_names(page) == runs
    page.fill("#filter", "sigma 0.7")
    assert seen_names(page) == {"sigma = 0.7, seed 0", "sigma = 0.7, seed 1"}, "found ones unfold"
    assert page.locator(".fold:visible").count() >= 1
    page.fill("#filter", "")
    assert seen_names(page) == runs


def test_the_page_opens_with_the_best_run(page, rich, screens):
    screens(page, "report")
    best = page.locator("#best")
    assert best.locator(".open").inner_text() in (rich.good, rich.other)
    assert best.evaluate("e => e.getBoundingClientRect().top + scrollY") < DESKTOP["height"] / 2
    assert best.locator("img").is_visible() and best.locator("svg.chart").is_visible()
    best.locator(".num").first.click()
    assert "Metric card" in page.locator("dialog[open]").inner_text()


def test_the_papers_other_models_are_folded(page):
    row = page.locator("#tables tr", has_text=re.compile("^RIN"))
    assert not row.is_visible()
    fold = page.locator("#tables").get_by_role("button", name=re.compile("^Paper: others"))
    fold.click()
    assert row.is_visible()
    fold.click()
    assert not row.is_visible()


def test_numbers_stand_right_aligned_under_their_heads(page):
    """Head and cells of a numeric column share a right edge, on the page and in dialogs."""
    page.locator("#summary").get_by_role("button", name="digits-base").click()
    wrong = page.evaluate(
        """() => [...document.querySelectorAll("td")].filter(cell =>
          cell.offsetParent && /^[-+]?[0-9][0-9,.]*$/.test(cell.textContent.trim())
          && !cell.querySelector("img") && getComputedStyle(cell).textAlign !== "right"
        ).map(cell => cell.outerHTML)"""
    )
    assert wrong == []
    heads = page.evaluate(
        """() => [...document.querySelectorAll("#summary thead th.number .sort")].map(sort => {
          const range = document.createRange();
          range.selectNodeContents(sort);
          const cell = sort.closest("th");
          return cell.getBoundingClientRect().right - range.getBoundingClientRect().right
            - parseFloat(getComputedStyle(cell).paddingRight);
        })"""
    )
    assert max(map(abs, heads)) < 1.5, heads


def test_a_click_on_a_number_shows_its_card_and_refuses_other_protocols(page, rich):
    row = page.locator(ROWS).filter(has_text=rich.good)
    row.get_by_role("button", name="7.988").click()
    text = page.locator("dialog[open]").inner_text()
    for words in (
        "FD-digits-cnn = 7.988",
        "lower is better",
        "num_samples",
        "3,000",
        "seed\n0\n",
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
    page.locator("#summary").get_by_role("button", name=rich.broken).click()
    text = page.locator("dialog[open]").inner_text()
    for words in (rich.broken, "alignment.json", "900 of 38,400", "PSNR", "trajectory"):
        assert words.lower() in text.lower(), words


def test_pictures_show_and_can_be_enlarged(page, collected):
    widths = page.eval_on_selector_all("img", "all => all.map(each => each.naturalWidth)")
    grids = sum(len(run.samples) for run in collected.runs)
    assert len(widths) == grids + 2 + 1 and min(widths) > 0, "the best run's is there twice"
    page.locator("#samples .zoom").first.click()
    assert page.locator("dialog[open] img").evaluate("each => each.naturalWidth") > 0


def test_every_chart_can_be_enlarged(page):
    charts = page.locator("main svg.chart")
    assert charts.count() == page.locator("main .zoom > svg.chart").count() > 5
    for section in ("dynamics", "ablations", "alignment", "trajectory"):
        chart = page.locator(f"#{section} .zoom").first
        small = chart.locator("svg").bounding_box()["width"]
        chart.click()
        assert page.locator("dialog[open] svg.chart").bounding_box()["width"] > 1.3 * small
        drawn = len(page.locator("dialog[open] svg.chart").get_attribute("aria-label").split("; "))
        assert page.locator("dialog[open] .legend").count() == 1 or drawn <= 2, "one needs none"
        page.click("#close")


def test_problems_unfold(page, seen):
    page.locator("#problems summary").click()
    assert page.locator("#problems li").count() == len(seen.problems)
    assert page.locator("#problems li").first.is_visible()


def test_the_dark_is_dark_and_legible(page, screens):
    def colours() -> list[str]:
        style = "getComputedStyle(document.body)"
        return page.evaluate(f"[{style}.backgroundColor, {style}.color]")

    light = colours()
    page.emulate_media(color_scheme="dark")
    paper, ink = colours()
    screens(page, "report-dark")
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


def test_on_a_phone_the_name_stays_in_view_and_numbers_come_first(page, screens):
    page.set_viewport_size(PHONE)
    screens(page, "report-phone")
    box = page.locator("#runs .scroll")
    assert "more" in box.get_attribute("class"), "a hint that there is more to the right"
    titles = page.locator("#summary thead th .sort").all_inner_texts()
    assert titles[0] == "Run" and titles[1] == "PSNR" and titles[-1] == "Status"
    box.evaluate("each => { each.scrollLeft = each.scrollWidth }")
    page.locator("#runs .scroll:not(.more)").wait_for()
    left = page.locator(f"{VISIBLE_ROWS} th").first.bounding_box()["x"]
    assert abs(left - box.bounding_box()["x"]) < 2
    box.evaluate("each => { each.scrollLeft = 0 }")


def test_the_page_can_be_printed(page, tmp_path):
    """Nothing is cut off at the right edge of the paper, and no control is printed."""
    page.set_viewport_size(A4_LANDSCAPE)
    page.emulate_media(media="print")
    try:
        outside = page.eval_on_selector_all(
            "table, figure, p",
            "all => all.filter(e => e.getClientRects().length && !e.closest('dialog')"
            " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)",
        )
        assert outside == []
        assert not page.locator("#filter").is_visible() and page.locator("#best").is_visible()
        name = page.locator(f"{VISIBLE_ROWS} th").first.bounding_box()
        assert name["width"] > 40 and name["height"] < 100, "names are not broken letter by letter"
    finally:
        page.emulate_media(media="screen")


def test_a_name_that_is_html_stays_text(page, rich):
    assert rich.hostile in names(page)
    page.locator("#summary").get_by_role("button", name=rich.hostile).click()
    assert page.locator("#dialog-title").inner_text() == rich.hostile
    assert page.locator("img[src=x], b:text-is('bold')").count() == 0


def test_all_this_made_no_error_and_asked_for_nothing(page, noise, report):
    assert [each for each in noise if each != report.as_uri() and each[:5] != "data:"] == []

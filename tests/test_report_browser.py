"""The report in a browser: nothing goes wrong, figures enlarge, by mouse and keyboard, in light, dark and print."""

from __future__ import annotations

import json
import time

import pytest

from tests.report_browser import HOSTILE, NEEDS_BROWSER, By, Keys, Reader

pytestmark = NEEDS_BROWSER


@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_is_requested_and_nothing_goes_wrong(reader: Reader, name: str) -> None:
    reader.driver.get_log("performance")
    reader.open(name)
    messages = [json.loads(entry["message"])["message"] for entry in reader.driver.get_log("performance")]
    requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # The browser's own first page may still be loading.
    sent = [r["request"]["url"] for r in requests if not r["documentURL"].startswith("chrome")]
    assert [url.partition(":")[0] for url in sent].count("file") == 1
    assert {url.partition(":")[0] for url in sent} <= {"file", "data"}


def test_hostile_text_is_shown_as_text(reader: Reader) -> None:
    reader.open("one")
    assert HOSTILE in reader.one("h1").text
    assert HOSTILE in reader.one("#run1-claims").text
    assert HOSTILE in reader.one("#run1-failures").text
    reader.filter("kind", "</script>")
    assert reader.count.startswith("50 of 200 rows") and reader.column("kind")[0] == HOSTILE
    assert len(reader.all("script")) == 3 and not reader.all("img[src=x]")


def test_measured_beside_theory_is_drawn(reader: Reader) -> None:
    reader.open("one")
    dots = [float(dot.get_attribute("cx")) for dot in reader.all("#run1-predicted circle")]
    assert dots[0] == 75 and dots[1] > 75  # a ratio of 1 in the middle, one of 1.25 to its right


def test_a_figure_enlarges_by_click_and_by_keyboard(reader: Reader) -> None:
    reader.open("one")
    first = reader.one(".enlarge")
    first.click()
    dialog = reader.one("dialog")
    assert dialog.is_displayed() and reader.one("dialog .place").text == "1 of 2, first"
    assert reader.one("dialog img").get_attribute("src") == reader.one(".enlarge img").get_attribute("src")
    reader.press(Keys.ARROW_RIGHT)
    assert reader.one("dialog .caption").text.startswith("Figure 1.")
    reader.press(Keys.ARROW_RIGHT)
    assert reader.one("dialog .caption").text.startswith("Figure 0.")
    reader.press(Keys.ESCAPE)
    assert not dialog.is_displayed() and reader.focused == first
    reader.press(Keys.ENTER)
    assert dialog.is_displayed() and reader.focused.text == "Close"
    reader.press(Keys.ENTER)
    assert not dialog.is_displayed()


def test_everything_can_be_reached_and_used_by_keyboard(reader: Reader) -> None:
    reader.open("one")
    reader.press(Keys.TAB)
    assert reader.focused.text == "Skip to content" and reader.focused.rect["x"] >= 0
    seen = set()
    for _ in range(80):
        reader.press(Keys.TAB)
        if reader.focused.tag_name == "body":  # past the last one
            break
        name = reader.run(
            "const e = document.activeElement; return e.getAttribute('aria-label') || e.textContent.trim()"
        )
        outline = reader.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert name, "something without a name gets the focus"
        assert outline != "none", f"{name} does not show that it has the focus"
        seen.add(name)
        if name == "metric":
            reader.press(Keys.ENTER)
            assert reader.focused.text.startswith("metric")
    assert {
        "Enlarge: Figure 0",
        "Filter metric",
        "Copy CSV",
        "Holds in 2 of 2 comparisons; the closest is shown",
    } <= seen
    assert (
        "metric" in seen
        and reader.heading("metric").find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    )


def test_inputs_images_and_graphics_have_names(reader: Reader) -> None:
    reader.open("two")
    nameless = reader.run(
        """return [...document.querySelectorAll("button, input, select, img, svg, [role=region]")].filter((e) =>
        !(e.getAttribute("aria-label") || e.alt || e.textContent.trim() || e.closest("label") || e.closest("dialog")))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    identical = reader.run(
        "const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length - new Set(ids).size"
    )
    assert identical == 0
    broken = reader.run(
        """return [...document.querySelectorAll('a[href^="#"]')]
        .filter((a) => !document.getElementById(a.hash.slice(1))).length"""
    )
    assert broken == 0


CONTRAST = """
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgb = (text) => {
  pen.clearRect(0, 0, 1, 1); pen.fillStyle = text; pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
};
const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const bright = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(c[i] / 255), 0);
const back = (e) => {
  for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; }
  return [255, 255, 255, 255];
};
const found = [];
for (const e of document.querySelectorAll("main *, nav *")) {
  const words = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
  if (e.closest("svg, dialog") || !e.offsetWidth || !words || e.disabled) continue;
  const [a, b] = [bright(rgb(getComputedStyle(e).color)), bright(back(e))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), `${e.tagName}.${e.className}: ${words.slice(0, 40)}`]);
}
return found.sort((a, b) => a[0] - b[0])[0];
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_in_light_and_dark(reader: Reader, dark: bool) -> None:
    reader.open("two", dark=dark)
    ratio, where = reader.run(CONTRAST)
    assert ratio >= 4.5, where
    back = reader.run("return getComputedStyle(document.body).backgroundColor")
    level = sum(map(int, back.removeprefix("rgb(").removesuffix(")").split(","))) / 3
    assert level < 40 if dark else level > 230


def test_verdicts_are_words_and_symbols_too(reader: Reader) -> None:
    reader.open("two")
    texts = {" ".join(element.text.split()) for element in reader.all(".matrix .verdict")}
    assert texts == {"✓holds", "✗fails"} or texts == {"✓ holds", "✗ fails"}


@pytest.mark.parametrize("width", [360, 800, 1400])
@pytest.mark.parametrize("name", ["one", "two"])
def test_wide_things_scroll_in_their_box_and_the_page_does_not(reader: Reader, name: str, width: int) -> None:
    reader.open(name, width=width)
    assert reader.run("return document.documentElement.scrollWidth <= window.innerWidth")
    box = "const box = document.querySelector('#run1-table .grid-box'); "
    if width == 360:
        assert reader.run(
            box + "return box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX === 'auto'"
        )


def test_two_runs_side_by_side(reader: Reader) -> None:
    reader.open("two")
    assert reader.one("h1").text == "2 runs side by side"
    rows = reader.all(".matrix tbody tr")
    assert ["verdicts differ" in row.text for row in rows] == [True, False]
    cells = rows[0].find_elements(By.TAG_NAME, "td")
    assert "holds" in cells[0].text and "fails" in cells[1].text and "expected: holds" in cells[1].text
    reader.all("[data-rows]")[1].click()
    assert [row.is_displayed() for row in rows] == [True, False]
    reader.all("[data-rows]")[0].click()
    assert all(row.is_displayed() for row in rows)
    cells[1].find_element(By.TAG_NAME, "a").click()
    assert reader.run("return location.hash") == "#run2-claim1"
    assert abs(reader.one("#run2-claim1").rect["y"] - reader.run("return scrollY")) < 60
    beside = reader.all(".figures.beside")[0].find_elements(By.TAG_NAME, "img")
    assert [reader.run("return [arguments[0].complete, arguments[0].naturalWidth]", image) for image in beside] == [
        [True, 2]
    ] * 2
    assert beside[0].rect["y"] == beside[1].rect["y"] and beside[0].rect["x"] < beside[1].rect["x"]
    (row,) = reader.all(".differing tbody tr")
    assert [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] == ["data.quality", "1.0", "0.1"]


def test_the_contents_follow_the_reader(reader: Reader) -> None:
    reader.open("one")
    assert reader.one(".contents [aria-current]").text.startswith("Claims")
    reader.run("document.getElementById('run1-failures').scrollIntoView()")
    for _ in range(100):
        if reader.one(".contents [aria-current]").text.startswith("Failures"):
            break
        time.sleep(0.02)
    assert reader.one(".contents [aria-current]").text.startswith("Failures")


def test_nothing_moves_while_the_page_builds(reader: Reader) -> None:
    reader.open("two")
    script = """const done = arguments[0]; let sum = 0;
    const observer = new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; });
    observer.observe({ type: "layout-shift", buffered: true });
    setTimeout(() => done(sum), 200);"""
    assert reader.driver.execute_async_script(script) < 0.02


def test_it_prints_without_what_only_a_screen_needs(reader: Reader) -> None:
    reader.open("one", dark=True)
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert not reader.one(".contents").is_displayed()
    assert not any(button.is_displayed() for button in reader.all("#run1-table .grid-tools button"))
    assert reader.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert reader.run("const b = document.querySelector('.grid-box'); return b.scrollHeight <= b.clientHeight + 1")
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})

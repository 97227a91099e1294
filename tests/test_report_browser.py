"""The report in a browser: it sorts, filters, enlarges, copies and saves, by mouse and keyboard, in light and dark."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kempeframe.report import read_runs, render
from kempeframe.table import Table

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")

HOSTILE = "</script><script>document.title = 'attacked'</script><img src=x onerror=\"document.title='attacked'\">"
VALUES: dict[str, list[Any]] = {
    "data.n": [10 ** (1 + i % 3) for i in range(200)],
    "kind": ["beta", "alpha", HOSTILE, 'with "quotes", commas'] * 50,
    "seed": list(range(200)),
    "status": ["failed" if i == 7 else "done" for i in range(200)],
    "error": [HOSTILE if i == 7 else "" for i in range(200)],
    "metric": [None if i == 7 else math.nan if i == 8 else math.inf if i == 9 else math.sin(i) for i in range(200)],
    "small": [1e-9 * i for i in range(200)],
    "curve": [[0.1 * i] * (i % 12) for i in range(200)],
}
RED_DOT = (  # 2 x 1 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


def write_run(folder: Path, verdict: str = "holds", quality: float = 1.0, figures: int = 2) -> Path:
    """A run directory with what `VALUES` say; its texts are hostile."""
    import base64

    (folder / "figures").mkdir(parents=True)
    shown = "".join(
        f'[[figure]]\nname = "f{i}"\ntitle = "Figure {i}"\nx = "data.n"\ny = "metric"\n' for i in range(figures)
    )
    head = f'title = {json.dumps("Study " + HOSTILE)}\npaper = "arXiv:2410.04840"\n'
    claims = '[[claim]]\nstatement = "it is larger"\nthreshold = { of = "metric" }\nabove = 0.5\n'
    (folder / "spec.toml").write_text(f"{head}[data]\nquality = {quality}\n{shown}{claims}")
    for i in range(figures):
        (folder / "figures" / f"f{i}.png").write_bytes(base64.b64decode(RED_DOT))
    part = {"configuration": "n = 10", "estimate": 0.8, "interval": [0.7, 0.9], "seeds": 6, "method": "t over seeds"}
    part |= {"region": [0.5, math.inf], "verdict": verdict}
    claim = {"statement": "it is larger", "source": HOSTILE, "kind": "threshold", "verdict": verdict, "reason": ""}
    other = {"configuration": "n = 100", "estimate": 1.0, "interval": [0.9, 1.1]}
    claim |= {"expected": "holds", "seeds_needed": None, "parts": [part, {**part, **other}]}
    same = {**claim, "statement": "both agree on this", "verdict": "holds", "parts": [{**part, "verdict": "holds"}]}
    (folder / "claims.json").write_text(json.dumps([claim, same]))
    table = Table(VALUES)
    table.write_parquet(folder / "table.parquet")
    table.write_csv(folder / "table.csv")
    predicted = {"data.n": [10, 100], "metric": ["metric"] * 2, "measured": [1.0, 2.0], "low": [0.9, 1.8]}
    predicted |= {
        "high": [1.1, 2.2],
        "seeds": [3, 3],
        "theory": ["theory"] * 2,
        "predicted": [1.0, 1.6],
        "ratio": [1.0, 1.25],
    }
    Table(predicted).write_csv(folder / "predicted.csv")
    failure = {"configuration": {"data.n": 100}, "seed": 7, "error": HOSTILE, "traceback": f"Traceback\n{HOSTILE}"}
    (folder / "failures.json").write_text(json.dumps([failure]))
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    first = write_run(folder / "runs" / "first")
    second = write_run(folder / "runs" / "second", verdict="fails", quality=0.1)
    (folder / "one.html").write_text(render(read_runs([first])), encoding="utf-8")
    (folder / "two.html").write_text(render(read_runs([first, second])), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Reader:
    """Someone who looks at a page."""

    def __init__(self, driver: Any, folder: Path):
        self.driver, self.folder = driver, folder

    def open(self, name: str, width: int = 1400, dark: bool = False) -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        features += [{"name": "prefers-reduced-motion", "value": "reduce"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get((self.folder / f"{name}.html").as_uri())

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def column(self, name: str) -> list[str]:
        """The cells of a column that are in the document."""
        names = [cell.text.strip("▲▼ \n") for cell in self.all("#run1-table thead tr:first-child th")]
        cells = self.all(f"#run1-table tbody td:nth-child({names.index(name) + 1})")
        return [str(cell.text) for cell in cells]

    def filter(self, name: str, text: str) -> Any:
        box = self.one(f'#run1-table input[aria-label="Filter {name}"]')
        box.clear()
        box.send_keys(text)
        return box

    @property
    def count(self) -> str:
        return str(self.one("#run1-table .count").text)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    @property
    def focused(self) -> Any:
        return self.driver.switch_to.active_element

    def heading(self, name: str) -> Any:
        return next(b for b in self.all("#run1-table button.sort") if b.text.strip("▲▼ \n") == name)


@pytest.fixture
def reader(started: Any, pages: Path) -> Iterator[Reader]:
    yield Reader(started, pages)
    problems = [entry for entry in started.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not problems
    assert started.title != "attacked"


@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_is_requested_and_nothing_goes_wrong(reader: Reader, name: str) -> None:
    reader.driver.get_log("performance")
    reader.open(name)
    messages = [json.loads(entry["message"])["message"] for entry in reader.driver.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
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


def test_sorting_by_click_goes_up_down_and_back(reader: Reader) -> None:
    reader.open("one")
    titles = {cell.text.strip("▲▼ \n"): cell for cell in reader.all("#run1-table thead th")}
    assert titles["metric"].get_attribute("aria-sort") == "none"
    reader.heading("metric").click()
    assert titles["metric"].get_attribute("aria-sort") == "ascending"
    up = [float(text) for text in reader.column("metric")]
    assert up == sorted(up)
    assert up[0] == pytest.approx(min(v for v in VALUES["metric"] if isinstance(v, float) and v == v), abs=1e-5)
    reader.heading("metric").click()
    assert titles["metric"].get_attribute("aria-sort") == "descending"
    down = reader.column("metric")
    assert down[0] == "inf" and [float(x) for x in down[1:]] == sorted((float(x) for x in down[1:]), reverse=True)
    reader.one('#run1-table [aria-label="Last page"]').click()
    assert reader.column("metric")[-2:] == ["nan", "–"]  # noqa: RUF001
    reader.heading("metric").click()
    assert titles["metric"].get_attribute("aria-sort") == "none" and reader.column("seed")[:3] == ["0", "1", "2"]
    reader.heading("kind").click()
    assert reader.column("kind")[0] == HOSTILE


FILTERS: list[tuple[str, str, Callable[[Any], bool]]] = [
    ("metric", "> 0.3", lambda v: v is not None and v > 0.3),
    ("metric", "<= -0.5", lambda v: v is not None and v <= -0.5),
    ("metric", "0.1..0.5", lambda v: v is not None and 0.1 <= v <= 0.5),
    ("metric", "-0.5 to 0.5", lambda v: v is not None and -0.5 <= v <= 0.5),
    ("metric", "> 0.1 < 0.5", lambda v: v is not None and 0.1 < v < 0.5),
    ("metric", ">0.1, <=0.5", lambda v: v is not None and 0.1 < v <= 0.5),
    ("metric", "nan", lambda v: v is not None and v != v),
    ("metric", "= inf", lambda v: v == math.inf),
    ("metric", "none", lambda v: v is None),
    ("metric", f"= {math.sin(3):.6g}", lambda v: v == math.sin(3)),
    ("small", "< 2e-9", lambda v: v < 2e-9),
    ("small", "1e-9..5e-9", lambda v: 1e-9 <= v <= 5e-9),
    ("data.n", "100", lambda v: v in (100, 1000)),
    ("data.n", "= 100", lambda v: v == 100),
    ("data.n", "!= 100", lambda v: v != 100),
    ("kind", "ALPH", lambda v: "alph" in v.lower()),
    ("kind", "= alpha", lambda v: v == "alpha"),
    ("kind", "!= alpha", lambda v: v != "alpha"),
    ("kind", "no such thing", lambda v: False),
    ("curve", "0.2", lambda v: any("0.2" in f"{x:.6g}" for x in v)),
]


@pytest.mark.parametrize(("name", "text", "keeps"), FILTERS, ids=[f"{name} {text}" for name, text, _ in FILTERS])
def test_filters_keep_the_rows_they_name(reader: Reader, name: str, text: str, keeps: Callable[[Any], bool]) -> None:
    if reader.driver.current_url != (reader.folder / "one.html").as_uri():
        reader.open("one")
    reader.run("document.querySelector('#run1-table').grid.reset()")
    box = reader.filter(name, text)
    assert box.get_attribute("aria-invalid") == "false"
    expected = [i for i, value in enumerate(VALUES[name]) if keeps(value)]
    assert sorted(reader.run("return document.querySelector('#run1-table').grid.order")) == expected
    assert reader.count.startswith(f"{len(expected)} of 200 rows")
    assert (["No row meets the filters."] if not expected else []) == [
        c.text for c in reader.all("#run1-table .nothing")
    ]


def test_filters_of_several_columns_go_together_and_can_be_cleared(reader: Reader) -> None:
    reader.open("one")
    box = reader.one("#run1-table .grid-box")
    height = box.size["height"]
    reader.filter("kind", "alpha")
    reader.filter("metric", "> 0.9")
    expected = [i for i in range(200) if VALUES["kind"][i] == "alpha" and (VALUES["metric"][i] or 0) > 0.9]
    assert reader.column("seed") == [str(i) for i in expected]
    assert box.size["height"] == height  # what stands below did not move
    reader.one("#run1-table .grid-tools button").click()
    assert reader.count.startswith("200 rows") and reader.one('[aria-label="Filter kind"]').get_attribute("value") == ""


def test_a_filter_that_cannot_be_read_is_said_and_changes_nothing(reader: Reader) -> None:
    reader.open("one")
    box = reader.filter("metric", "> x")
    assert box.get_attribute("aria-invalid") == "true"
    assert "“> x” is no filter yet" in reader.one("#run1-table .grid-message").text
    assert reader.count.startswith("200 rows")


def test_pages_hold_few_rows_and_turning_them_moves_no_column(reader: Reader) -> None:
    reader.open("one")
    widths = [cell.size["width"] for cell in reader.all("#run1-table thead th")]
    assert len(reader.column("seed")) == 50 and reader.count == "200 rows, 1 to 50 shown"
    reader.one('#run1-table [aria-label="Next page"]').click()
    assert reader.column("seed")[0] == "50" and reader.count == "200 rows, 51 to 100 shown"
    assert [cell.size["width"] for cell in reader.all("#run1-table thead th")] == widths
    reader.one('#run1-table [aria-label="Last page"]').click()
    assert not reader.one('#run1-table [aria-label="Next page"]').is_enabled()
    reader.one("#run1-table select").send_keys("250")
    assert len(reader.column("seed")) == 200


def test_columns_are_chosen(reader: Reader) -> None:
    reader.open("one")
    button = reader.one("#run1-table .columns > button")
    assert button.text == "Columns (8 of 8)"
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    next(label for label in reader.all("#run1-table .columns label") if label.text == "kind").click()
    assert button.text == "Columns (7 of 8)"
    reader.press(Keys.ESCAPE)
    assert button.get_attribute("aria-expanded") == "false" and reader.focused == button
    assert "kind" not in [cell.text.strip() for cell in reader.all("#run1-table thead th")]


def csv_of(reader: Reader) -> list[list[str]]:
    return list(csv.reader(io.StringIO(reader.run("return document.querySelector('#run1-table').grid.csv()"))))


def test_a_saved_csv_is_the_runs_table(reader: Reader, tmp_path: Path) -> None:
    reader.open("one")
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    reader.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    next(button for button in reader.all("#run1-table button") if button.text == "Save CSV").click()
    saved = tmp_path / "first-table.csv"
    for _ in range(100):
        if saved.exists():
            break
        time.sleep(0.05)
    run = reader.folder / "runs" / "first" / "table.csv"
    written, found = (list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""))) for path in (run, saved))
    assert found[0] == written[0] and len(found) == len(written)
    for row, other in zip(found[1:], written[1:], strict=True):
        assert row[:5] == other[:5]
        assert row[5] == other[5] or float(row[5]) == float(other[5])  # 1e-09 or 1e-9
        assert float(row[6]) == float(other[6]) and json.loads(row[7]) == json.loads(other[7])


def test_a_copied_csv_holds_what_is_filtered_and_sorted(reader: Reader) -> None:
    reader.open("one")
    grant = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    reader.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    reader.filter("metric", "> 0.9")
    reader.heading("metric").click()
    button = next(button for button in reader.all("#run1-table button") if button.text == "Copy CSV")
    button.click()
    for _ in range(100):
        if button.text == "Copied":
            break
        time.sleep(0.02)
    assert button.text == "Copied"
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    rows = list(csv.reader(io.StringIO(reader.driver.execute_async_script(read))))
    assert rows == csv_of(reader)
    metrics = [float(row[5]) for row in rows[1:]]
    assert metrics == sorted(v for v in VALUES["metric"] if v is not None and v > 0.9)


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

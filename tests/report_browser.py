"""A browser, the run whose report it opens, and someone who looks at the page; tests skip where selenium is missing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from kempeframe.table import Table

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys as Keys  # noqa: E402

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
NEEDS_BROWSER = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")

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


def start(profile: Path) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


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

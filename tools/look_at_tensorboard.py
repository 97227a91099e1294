"""What a user sees in TensorBoard: opens each tab in headless Chromium, saves pictures, prints times.

    python tools/look_at_tensorboard.py runs/NAME/tensorboard --out /tmp/pictures

Needs `chromium` and `chromedriver` (or Chrome), and selenium, which the extra `test` installs. A time is from asking
for the page to the last change of what is seen; a page counts as still once nothing has changed for two seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TABS = ("first", "timeseries", "scalars", "custom_scalars", "images", "text", "hparams")  # first: no tab is named
STILL = 2.0  # seconds without a change
LONGEST = 60.0  # seconds until a page is given up
SIZE = (1600, 1000)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logdir", type=Path, help="a log directory, such as runs/NAME/tensorboard")
    parser.add_argument("--out", type=Path, default=Path("tensorboard_pictures"), help="folder for the pictures")
    parser.add_argument("--tabs", nargs="+", default=list(TABS), metavar="TAB", help=f"default: {' '.join(TABS)}")
    parser.add_argument("--query", default="", help="what stands before the # of the address: darkMode=true&...")
    parser.add_argument(
        "--tall", type=int, default=0, metavar="PIXELS", help="also a picture of so many pixels' height"
    )
    parser.add_argument("--script", default="", help="JavaScript that is run before the picture is taken, to click")
    chosen = parser.parse_args(arguments)
    if not any(chosen.logdir.rglob("*tfevents*")):
        print(f"{chosen.logdir}: no event files there", file=sys.stderr)
        return 2
    chosen.out.mkdir(parents=True, exist_ok=True)
    runs = len({file.parent for file in chosen.logdir.rglob("*tfevents*")})
    with server(chosen.logdir, runs) as (address, reading), browser() as driver:
        print(f"{'TensorBoard':<16}{reading:6.1f} s until it has read {runs} runs")
        for tab in chosen.tabs:
            where = f"{address}?{chosen.query}" + ("" if tab == "first" else f"#{tab}")
            seconds, settled = open_page(driver, where)
            if chosen.script:
                driver.execute_script(chosen.script)
                until_still(driver)
            driver.save_screenshot(str(chosen.out / f"{tab}.png"))
            remark = "" if settled else f"   not still after {LONGEST:.0f} s"
            print(f"{tab:<16}{seconds:6.1f} s{remark}   {len(errors(driver))} errors   {driver.current_url}")
            if chosen.tall:
                driver.set_window_size(SIZE[0], chosen.tall)
                until_still(driver)
                driver.save_screenshot(str(chosen.out / f"{tab}_tall.png"))
                driver.set_window_size(*SIZE)
    return 0


@contextmanager
def server(logdir: Path, runs: int) -> Iterator[tuple[str, float]]:
    """TensorBoard with all runs read: its address, and the seconds that this took."""
    start = time.monotonic()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "localhost", "--port", "0"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            address = ""
            while time.monotonic() < start + LONGEST:
                said.seek(0)
                words = said.read().split()
                address = next((w for w in words if w.startswith("http://localhost:")), "")
                if address and len(fetch(f"{address}data/runs")) >= runs:
                    break
                if process.poll() is not None:
                    raise RuntimeError("TensorBoard ended: " + " ".join(words))
                time.sleep(0.05)
            yield address, time.monotonic() - start
        finally:
            process.terminate()
            process.wait()


def fetch(address: str) -> Any:
    """What the server answers, read as JSON."""
    with urllib.request.urlopen(address, timeout=LONGEST) as answer:
        return json.load(answer)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window and without what an earlier visit left."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={SIZE[0]},{SIZE[1]}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found:
        options.binary_location = found
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, address: str) -> tuple[float, bool]:
    """Load a page as if for the first time; seconds until it was rendered, and whether it came to rest at all."""
    driver.get("about:blank")
    errors(driver)
    start = time.monotonic()
    driver.execute_script("location.href = arguments[0]", address)
    seen, settled = until_still(driver)
    return seen - start, settled


def until_still(driver: Any) -> tuple[float, bool]:
    """Wait until the picture does not change any more: the time of its last change, and False where it went on."""
    begun = changed = time.monotonic()
    before = b""
    while time.monotonic() < begun + LONGEST:
        picture = driver.get_screenshot_as_png()
        if picture != before:
            before, changed = picture, time.monotonic()
        elif time.monotonic() > changed + STILL:
            return changed, True
        time.sleep(0.1)
    return changed, False


def errors(driver: Any) -> list[str]:
    """What the page has complained of since it was last asked."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


if __name__ == "__main__":
    sys.exit(main())

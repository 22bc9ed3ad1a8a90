"""Chromium with the review page open, started once for all tests that use it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_browser import FPS, HOSTILE, SECONDS, Browser, write_webm

from etad.pipeline.show.page.content import PageAction, PageVideo
from etad.pipeline.show.page.page import write_page

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1300,1000"),
)


@pytest.fixture(scope="package")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser tests need selenium")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("the browser tests need chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    started = webdriver.Chrome(options=options, service=service)
    yield started
    started.quit()


@pytest.fixture(scope="package")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos: one that plays, with ground truth; one whose file is gone and whose classes are hostile."""
    run = tmp_path_factory.mktemp("a run #1")
    write_webm(run / "videos" / "a b%.webm")
    first = [PageAction(1, 2, "run", 0.9), PageAction(3, 4, "jump", 0.6), PageAction(5, 6, "run", 0.3)]
    second = [PageAction(2, 5, HOSTILE, 0.8), PageAction(6, 7, "__proto__", 0.7)]
    videos = [
        PageVideo("a", run / "videos" / "a b%.webm", SECONDS, FPS, first, [PageAction(6.5, 7.5, "jump", None)]),
        PageVideo(HOSTILE, run / "videos" / "gone.mp4", 60.0, None, second, None, subset="extra"),
    ]
    thresholds = {"run": 0.5, "jump": 0.5, HOSTILE: 0.1}
    path = run / "plots" / "review.html"
    return write_page(path, videos, labels=["run", "jump"], thresholds=thresholds, title="Run <1>", notes=[HOSTILE])


@pytest.fixture
def browser(driver: Any, page: Path, tmp_path: Path) -> Iterator[Browser]:
    """The page, newly opened; whatever is done with it, the console stays empty."""
    tmp_path.joinpath("downloads").mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    opened = Browser(driver, tmp_path / "downloads")
    opened.open(page)
    yield opened
    said = [entry for entry in driver.get_log("browser") if "gone.mp4" not in entry["message"]]
    assert said == []

"""The review page's files, names, controls and themes, in a real browser."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from page_browser import HOSTILE, SECONDS, Browser

from etad.data.annotations import Action, read_annotations
from etad.pipeline.show.page.content import PageAction, PageVideo
from etad.pipeline.show.page.page import write_page

By = pytest.importorskip("selenium.webdriver.common.by", reason="the browser tests need selenium").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

pytestmark = pytest.mark.slow

CONTRASTS = """
const parsed = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
  .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = parsed(getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!hasText || element.disabled || !element.checkVisibility() || element.closest('script, noscript')) continue;
  const [a, b] = [luminance(parsed(getComputedStyle(element).color)), luminance(behind(element))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.trim().slice(0, 40)]);
}
return found;
"""


def test_what_is_saved_are_annotations_and_loads_back_into_the_page(browser: Browser, page: Path) -> None:
    browser.press("n", "r", "n", "x", "v")
    browser.click("accept-all")
    browser.js("etadReview.player.seek(20)")
    browser.press("i")
    browser.js("etadReview.player.seek(21.2345)")
    browser.press("o")
    before, others = browser.actions(), browser.js("return etadReview.store.videos[0].actions.map((a) => a.status)")
    assert browser.text("save-state") == "Unsaved changes"
    saved = browser.save()
    assert browser.text("save-state") == "" and saved.name == "run-1-annotations.json"
    read = read_annotations(saved).videos
    assert (read["a"].subset, read[HOSTILE].subset) == ("training", "extra")
    assert read["a"].duration_seconds == SECONDS
    assert read["a"].actions == (Action(1, 2.1, "run"), Action(6.5, 7.5, "jump"))
    assert read[HOSTILE].actions == (
        *(Action(2, 5, HOSTILE), Action(6, 7, "__proto__")),
        Action(20, 21.234, "run") if before["a0"][1] == 21.234 else Action(20, 21.235, "run"),
    )
    browser.open(page)
    browser.load(saved)
    assert "Loaded 5 actions of 2 videos" in browser.text("message-text")
    assert browser.js("return etadReview.store.videos[0].actions.map((a) => a.status)") == others
    browser.press("v")
    assert browser.actions() == before


def test_annotations_of_elsewhere_load_and_a_file_that_is_none_gets_a_sentence(
    browser: Browser, tmp_path: Path
) -> None:
    entry = {"subset": "x", "annotations": [{"segment": [1.5, 2.5], "label": "swim"}]}
    (tmp_path / "other.json").write_text(json.dumps({"database": {"a": entry, "z": entry}}))
    browser.load(tmp_path / "other.json")
    assert "Loaded 1 actions of 1 videos" in browser.text("message-text") and "z" in browser.text("message-text")
    assert {key: value for key, value in browser.actions().items() if value[3] != "open"} == {
        "a0": (1.5, 2.5, "swim", "added")
    }
    kept = browser.actions()
    for number, content in enumerate(("[1]", "{", '{"database": {"a": {"annotations": [{"segment": [2, 1]}]}}}')):
        (tmp_path / f"{number}.json").write_text(content)
        browser.js("document.getElementById('message').hidden = true")
        browser.load(tmp_path / f"{number}.json")
        assert "cannot be loaded" in browser.text("message-text")
    assert browser.actions() == kept


def test_an_entry_that_stands_twice_in_a_file_loses_no_action(browser: Browser, tmp_path: Path) -> None:
    browser.press("n", "a")
    saved = json.loads(browser.save().read_text())
    entries = saved["database"]["a"]["annotations"]
    entries.append({**entries[0], "segment": [4.0, 5.0]})
    (tmp_path / "twice.json").write_text(json.dumps(saved))
    browser.js("document.getElementById('message').hidden = true")
    browser.load(tmp_path / "twice.json")
    actions = browser.actions()
    assert (actions["d0"], actions["a0"]) == ((1, 2, "run", "accepted"), (4, 5, "run", "added"))


def test_unsaved_changes_survive_a_closed_page_and_can_be_dropped(browser: Browser, page: Path) -> None:
    browser.press("n", "a", "n", "x")
    browser.js("etadReview.draft.writeNow(); etadReview.store.unsaved = false")
    browser.driver.get(page.as_uri())
    actions = browser.actions()
    assert (actions["d0"][3], actions["d1"][3], actions["d2"][3]) == ("accepted", "deleted", "open")
    assert "earlier visit" in browser.text("message-text") and browser.text("save-state") == "Unsaved changes"
    browser.click("message-action")
    assert {status for *_, status in browser.actions().values()} == {"open"}
    assert browser.js("return localStorage.length") == 0


def test_a_missing_video_leaves_the_timeline_and_takes_a_file(browser: Browser, page: Path) -> None:
    browser.press("v")
    browser.wait("!document.getElementById('missing').hidden")
    assert "gone.mp4" in browser.text("missing-text") and "choose the file" in browser.text("missing-text")
    browser.press("n")
    assert browser.time() == 2
    video = page.parent.parent / "videos" / "a b%.webm"
    browser.driver.find_element(By.ID, "attach").send_keys(str(video))
    browser.wait_for_video()
    assert browser.js("return document.getElementById('missing').hidden")
    assert "It may be another one" in browser.text("message-text")
    browser.press("SHIFT+V", "v")
    browser.wait_for_video()


def test_hostile_names_stay_text(browser: Browser) -> None:
    browser.press("v")
    browser.press("n", "x")
    assert HOSTILE in browser.text("message-text")
    browser.click("message-action")
    assert browser.js("return document.querySelectorAll('img').length + (window.attacked || 0)") == 0
    names = browser.js("return [...document.querySelectorAll('.list-name')].map((e) => e.textContent)")
    assert names == [HOSTILE, "__proto__"]
    # Even markup that got in could not run: the policy knows our script alone.
    browser.js("document.body.insertAdjacentHTML('beforeend', arguments[0])", HOSTILE)
    time.sleep(0.1)
    assert browser.js("return window.attacked") is None
    refused = browser.driver.get_log("browser")
    assert refused and all("Content Security Policy" in e["message"] or "gone.mp4" in e["message"] for e in refused)


def test_help_lists_the_keys_and_keys_of_controls_stay_theirs(browser: Browser) -> None:
    browser.press("?")
    assert browser.js("return document.getElementById('help').open")
    assert "Next or previous action" in browser.text("keys")
    browser.press("n", "ESCAPE")
    assert browser.js("return [document.getElementById('help').open, etadReview.store.selected]") == [False, None]
    browser.press("n")
    browser.driver.find_element(By.ID, "start").send_keys("x")
    assert browser.actions()["d0"][3] == "open"


def test_after_a_click_on_a_control_keys_are_the_pages_again(browser: Browser) -> None:
    browser.wait_for_video()
    browser.press("n")
    browser.driver.find_element(By.ID, "delete").click()
    assert browser.actions()["d0"][3] == "deleted" and browser.js("return etadReview.store.selected") == "d1"
    browser.press("SPACE")
    browser.wait("etadReview.player.isPlaying")
    browser.press("SPACE")
    assert browser.actions()["d1"][3] == "open"
    # Who goes by keys keeps the focus: Enter on the button is the button's.
    browser.driver.find_element(By.ID, "accept").send_keys(Keys.ENTER)
    assert browser.actions()["d1"][3] == "accepted"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes_and_a_phone_needs_no_sideways_scroll(browser: Browser, theme: str) -> None:
    # With reduced motion colours are there at once.
    wanted = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
    media = {"features": [{"name": name, "value": value} for name, value in wanted.items()]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.press("n", "a")
    browser.js("document.getElementById('notes').open = true; etadReview.say('Said.')")
    for _ in range(2):  # as the system has it, and switched
        page_colour = browser.js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        is_dark = sum(page_colour) < 200
        assert is_dark == (theme == "dark")
        contrasts = browser.js(CONTRASTS)
        assert len(contrasts) > 30 and [low for low in contrasts if low[0] < 4.5] == []
        browser.click("theme")
        theme = "light" if theme == "dark" else "dark"
    metrics = {"width": 375, "height": 667, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.press("v")
        assert browser.js("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
        beyond = "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 376)"
        browser.wait(f"{beyond}.length === 0")  # canvases are drawn anew a moment after the width has changed
        assert browser.js("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_every_control_has_a_name(browser: Browser) -> None:
    browser.js("etadReview.say('Said.', 'Undo', () => 0)")
    unnamed = browser.js("""
        const isNamed = (e) => e.textContent.trim() || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
            || (e.labels && e.labels.length && e.labels[0].textContent.trim());
        const controls = document.querySelectorAll('button, select, input, canvas[tabindex], [role=listbox]');
        return [...controls].filter((e) => !isNamed(e)).map((e) => e.outerHTML);
    """)
    assert unnamed == []


def test_two_thousand_actions_scroll_smoothly(browser: Browser, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    starts = np.sort(random.uniform(0, 7190, 2000))
    actions = [
        PageAction(s, s + random.uniform(1, 9), f"class {k % 30}", random.uniform(0, 1)) for k, s in enumerate(starts)
    ]
    long = [PageVideo("long", None, 7200.0, 25.0, actions, None)]
    path = write_page(
        tmp_path / "long.html", long, labels=[f"class {k}" for k in range(30)], thresholds={}, title="Long"
    )
    browser.open(path)
    assert len(browser.shown()) == 2000
    least_ms: Callable[[str], float] = lambda work: browser.js(  # noqa: E731
        "const times = []; for (let k = 0; k < 20; k += 1) { const t = performance.now(); "
        f"{work} times.push(performance.now() - t); }} return Math.min(...times)"
    )
    # A sixtieth of a second is 17 ms; the least of some, for other work may share this machine's cores.
    assert least_ms("etadReview.timeline.show(60 * k, 60 * k + 600); etadReview.timeline.drawNow();") < 17
    assert least_ms("etadReview.timeline.fit(); etadReview.timeline.drawNow();") < 17
    assert least_ms("etadReview.panel.list.scrollTop = 997 * k; etadReview.panel.drawList();") < 17
    assert browser.js("return document.querySelectorAll('.list-row').length") < 30

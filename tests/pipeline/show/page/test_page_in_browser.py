"""The review page's actions as people correct them: in a real browser, with mouse, touch and keys."""

import pytest
from page_browser import SECONDS, Browser

By = pytest.importorskip("selenium.webdriver.common.by", reason="the browser tests need selenium").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

pytestmark = pytest.mark.slow


def test_the_video_plays_and_the_playhead_moves(browser: Browser) -> None:
    browser.wait_for_video()
    assert browser.text("missing-text") == ""
    browser.press("SPACE")
    browser.wait("etadReview.player.time > 0.15")
    assert browser.driver.find_element(By.ID, "play").get_attribute("aria-label") == "Pause"
    browser.press("SPACE")
    browser.wait("!etadReview.player.isPlaying")
    assert browser.js("return document.getElementById('playhead').style.transform") != ""


def test_a_click_on_the_timeline_seeks_and_selects(browser: Browser) -> None:
    browser.wait_for_video()
    x, y = browser.middle("d1")
    browser.drag((x, y))
    browser.wait_for_video()
    assert abs(browser.js("return etadReview.player.element.currentTime") - 3.5) < 0.02
    assert "3.5" in browser.text("clock")
    assert browser.text("state-badge") == "detected" and "0.600" in browser.text("score-text")
    empty = browser.x_of(2.5), y
    browser.drag(empty)
    assert abs(browser.time() - 2.5) < 0.02 and browser.js("return etadReview.store.selection") is None


def test_a_dragged_boundary_moves_to_a_frame_and_shows_it(browser: Browser) -> None:
    browser.wait_for_video()
    box, (_, y) = browser.box("d0"), browser.middle("d0")
    browser.drag((box["right"] - 2, y), (browser.x_of(2.74) - 2, y))
    assert browser.actions()["d0"] == (1, 2.7, "run", "edited")
    assert abs(browser.time() - 2.7) < 0.001
    browser.press("CONTROL+z")
    assert browser.actions()["d0"] == (1, 2, "run", "open")
    browser.press("CONTROL+y")
    assert browser.actions()["d0"][1] == 2.7


def test_a_finger_moves_a_boundary_of_the_selected_action_and_else_scrolls(browser: Browser) -> None:
    box, (x, y) = browser.box("d0"), browser.middle("d0")
    browser.js("etadReview.timeline.show(0, 4)")
    box, (x, y) = browser.box("d0"), browser.middle("d0")
    browser.drag((box["left"], y), (box["left"] - 60, y), kind="touch")
    assert browser.actions()["d0"][0] == 1 and browser.js("return etadReview.timeline.view.from") > 0.2
    browser.js("etadReview.timeline.show(0, 4)")
    browser.drag((x, y), kind="touch")
    browser.drag((box["left"] + 3, y), (browser.x_of(0.5), y), kind="touch")
    assert browser.actions()["d0"][0] == 0.5


def test_keys_jump_nudge_relabel_accept_delete_and_undo(browser: Browser) -> None:
    browser.press("n")
    assert browser.js("return etadReview.store.selected") == "d0" and browser.time() == 1
    browser.press("n", "n", "p")
    assert browser.js("return etadReview.store.selected") == "d1" and browser.time() == 3
    for place in ("list", "lanes"):
        browser.js("document.getElementById(arguments[0]).focus()", place)
        browser.press("ARROW_DOWN")
        assert browser.js("return etadReview.store.selected") == "t0"
        assert browser.js("return document.getElementById('list').getAttribute('aria-activedescendant')") == "row-t0"
        browser.press("ARROW_UP")
        assert browser.js("return etadReview.store.selected") == "d1"
    browser.press("q", "w", "w", "SHIFT+R")
    assert browser.actions()["d1"] == (3.1, 5, "jump", "edited")
    browser.press("1")
    assert browser.actions()["d1"][2:] == ("run", "edited")
    browser.press("p", "a")
    assert browser.actions()["d0"][3] == "accepted"
    browser.press("x")
    assert browser.actions()["d0"][3] == "deleted" and "d0" not in browser.shown()
    assert "Deleted run" in browser.text("message-text")
    browser.click("message-action")
    assert browser.actions()["d0"][3] == "accepted"
    assert browser.js("const e = new Event('beforeunload', {cancelable: true}); return !window.dispatchEvent(e)")


def test_the_inspector_takes_numbers_and_refuses_what_leaves_the_video(browser: Browser) -> None:
    browser.press("n")
    field = browser.driver.find_element(By.ID, "end")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "2.3456", Keys.TAB)
    assert browser.actions()["d0"][:2] == (1, 2.346)
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "99", Keys.TAB)
    assert browser.actions()["d0"][1] == SECONDS and field.get_attribute("value") == "8.000"


def test_actions_are_added_by_a_drag_in_a_lane_and_by_keys(browser: Browser) -> None:
    _, y = browser.middle("d1")
    browser.drag((browser.x_of(0.52), y), (browser.x_of(1.48), y))
    assert browser.actions()["a0"] == (0.5, 1.5, "jump", "added")
    browser.js("etadReview.player.seek(7)")
    browser.press("i")
    browser.js("etadReview.player.seek(7.5)")
    browser.press("o")
    assert browser.actions()["a1"] == (7, 7.5, "run", "added")


def test_the_threshold_hides_what_scores_less_and_the_filter_a_class(browser: Browser) -> None:
    assert browser.shown() == ["d0", "d1", "t0"]
    set_scale = (
        "const s = document.getElementById('scale'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    )
    browser.js(set_scale, -100)
    assert browser.shown() == ["d0", "d1", "d2", "t0"]
    browser.js(set_scale, 50)
    assert browser.shown() == ["d0", "d1", "t0"]
    browser.js(set_scale, 100)
    assert browser.shown() == ["t0"]
    browser.click("scale-reset")
    browser.driver.find_elements(By.CSS_SELECTOR, ".class-row input[type=checkbox]")[1].click()
    assert browser.shown() == ["d0"]
    assert [row.text.split("\n")[0] for row in browser.driver.find_elements(By.CLASS_NAME, "list-row")] == ["run"]


def test_accepting_all_leaves_out_what_repeats_a_kept_action(browser: Browser) -> None:
    browser.js("etadReview.store.add(1.1, 2, 0)")
    browser.press("SHIFT+A")
    actions = browser.actions()
    assert (actions["d0"][3], actions["d1"][3], actions["d2"][3]) == ("open", "accepted", "open")
    assert "1 left out" in browser.text("message-text")

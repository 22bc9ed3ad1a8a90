"""A real browser with the review page open, and what one does with it."""

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

HOSTILE = "<img src=x onerror='window.attacked = 1'>"
SECONDS, FPS = 8, 10
MOST_WAIT_SECONDS = 10.0


class Browser:
    """A browser with a page open, and what one does with it."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, page: Path) -> None:
        if self.driver.current_url.startswith("file:"):
            self.js("if (window.etadReview) etadReview.store.unsaved = false; localStorage.clear();")
        self.driver.get(page.as_uri())

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> Any:
        end = time.monotonic() + MOST_WAIT_SECONDS
        while not (value := self.js(f"return {script}")):
            assert time.monotonic() < end, f"never came true: {script}"
            time.sleep(0.03)
        return value

    def wait_for_video(self) -> None:
        self.wait("etadReview.player.isThere && !etadReview.player.element.seeking")

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            *held, last = key.split("+") if len(key) > 1 and "+" in key else [key]
            for name in held:
                chain.key_down(getattr(Keys, name))
            chain.send_keys(getattr(Keys, last) if len(last) > 1 else last)
            for name in held:
                chain.key_up(getattr(Keys, name))
        chain.perform()

    def drag(self, start: tuple[float, float], end: tuple[float, float] | None = None, kind: str = "mouse") -> None:
        """Press at a place of the timeline, in pixels from its corner, and let go there or at another one."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        canvas = self.driver.find_element("id", "lanes")
        self.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
        corner = self.js("const b = arguments[0].getBoundingClientRect(); return [b.left, b.top]", canvas)
        chain = ActionChains(self.driver, duration=20, devices=[PointerInput(kind, kind)])
        pointer = chain.w3c_actions.pointer_action
        places = [start, *([((start[0] + end[0]) / 2, end[1]), end] if end else [])]
        for number, (x, y) in enumerate(places):
            pointer.move_to_location(round(corner[0] + x), round(corner[1] + y))
            if number == 0:
                pointer.pointer_down()
        pointer.pointer_up()
        chain.w3c_actions.perform()

    def box(self, key: str) -> dict[str, float]:
        self.js("etadReview.timeline.drawNow()")
        return self.js("return etadReview.timeline.boxOf(arguments[0])", key)

    def x_of(self, seconds: float) -> float:
        return self.js("return etadReview.timeline.xOf(arguments[0])", seconds)

    def middle(self, key: str) -> tuple[float, float]:
        box = self.box(key)
        return (box["left"] + box["right"]) / 2, box["top"] + box["height"] / 2

    def actions(self) -> dict[str, tuple[float, float, str, str]]:
        """Start, end, label and status of every action of the video, by key."""
        rows = self.js(
            "const s = etadReview.store;"
            "return s.video.actions.map((a) => [a.key, a.start, a.end, s.labels[a.label], a.status])"
        )
        return {key: tuple(rest) for key, *rest in rows}

    def shown(self) -> list[str]:
        return self.js("return etadReview.store.shown().map((a) => a.key)")

    def text(self, id: str) -> str:
        return self.driver.find_element("id", id).text

    def click(self, id: str) -> None:
        self.js("document.getElementById(arguments[0]).click()", id)

    def time(self) -> float:
        return self.js("return etadReview.player.time")

    def save(self) -> Path:
        for old in self.downloads.iterdir():
            old.unlink()
        self.click("save")
        end = time.monotonic() + MOST_WAIT_SECONDS
        while not (found := [p for p in self.downloads.iterdir() if p.suffix == ".json" and p.stat().st_size]):
            assert time.monotonic() < end, "nothing was downloaded"
            time.sleep(0.03)
        return found[0]

    def load(self, file: Path) -> None:
        self.driver.find_element("id", "load").send_keys(str(file))
        self.wait("!document.getElementById('message').hidden")


def write_webm(path: Path) -> None:
    """Write a video that every chromium plays: VP8, brighter by the second."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base, stream.options = Fraction(1, FPS), {"deadline": "realtime", "cpu-used": "8"}
        for number in range(SECONDS * FPS):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 3 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

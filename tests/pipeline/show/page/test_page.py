"""What a review page holds, and that nothing in its data can become a part of the page."""

import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from etad.data.errors import EtadError
from etad.pipeline.show.page.content import PageAction, PageVideo
from etad.pipeline.show.page.page import embedded_json, video_url, write_page

HOSTILE = ("</script><script>alert(1)</script>", "<!--", "]]>", "a\u2028b\u2029c", "\ud800", "__proto__", '"&<>\\')


class Elements(HTMLParser):
    """Tags of a page, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data


def video(id: str = "a", **changes: object) -> PageVideo:
    fields: dict[str, object] = {
        "file": None,
        "duration_seconds": 10.0,
        "fps": 25.0,
        "detections": [PageAction(1.0, 2.0, "run", 0.5)],
        "ground_truth": None,
    }
    return PageVideo(id, **{**fields, **changes})  # type: ignore[arg-type]


def page(folder: Path, videos: list[PageVideo], **changes: object) -> str:
    given: dict[str, object] = {"labels": ["run"], "thresholds": {"run": 0.25}, "title": "Run 1"}
    path = write_page(folder / "review.html", videos, **{**given, **changes})  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def data_of(text: str) -> dict:
    return json.loads(Elements(text).scripts[0])


@pytest.mark.parametrize("text", HOSTILE)
def test_no_id_label_title_or_note_becomes_markup(tmp_path: Path, text: str) -> None:
    plain = Elements(page(tmp_path, [video()], notes=["a note"]))
    action = PageAction(1.0, 2.0, text, 0.5)
    hostile = [video(text, file=Path("x"), subset=text, detections=[action], ground_truth=[action])]
    written = page(tmp_path, hostile, labels=[text], thresholds={text: 0.1}, title=text, notes=[text])
    found = Elements(written)
    assert found.tags == plain.tags
    data = json.loads(found.scripts[0])
    assert data["videos"][0]["id"] == data["labels"][0] == data["notes"][0] == data["title"] == text
    assert found.scripts[0].isascii() and "<" not in found.scripts[0]


def test_the_data_are_what_was_given(tmp_path: Path) -> None:
    actions = [PageAction(1.23456, 2.0, "run", 0.123456789), PageAction(3.0, 4.0, "jump", 0.5)]
    data = data_of(page(tmp_path, [video(detections=actions, ground_truth=[PageAction(0, 9, "turn", None)])]))
    assert data["labels"] == ["run", "jump", "turn"] and data["thresholds"] == [0.25, 0.0, 0.0]
    (entry,) = data["videos"]
    assert entry["detections"] == [[1.235, 2.0, 0, 0.123456789], [3.0, 4.0, 1, 0.5]]
    assert entry["truth"] == [[0.0, 9.0, 2]]
    assert data_of(page(tmp_path, [video()]))["videos"][0]["truth"] is None
    assert data_of(page(tmp_path, [video(ground_truth=[])]))["videos"][0]["truth"] == []


def test_the_digest_tells_other_detections_and_not_where_the_videos_lie(tmp_path: Path) -> None:
    first = data_of(page(tmp_path, [video()]))["digest"]
    assert data_of(page(tmp_path, [video(file=tmp_path / "a.mp4")], title="Other"))["digest"] == first
    assert data_of(page(tmp_path, [video(detections=[])]))["digest"] != first


def test_the_policy_lets_nothing_run_but_our_own_script_and_the_page_names_no_address(tmp_path: Path) -> None:
    text = page(tmp_path, [video()])
    policy = Elements(text).policy
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy) and re.search(r"style-src 'sha256-", policy)
    assert not re.search(r"https?://", text) and not re.search(r"\{\{|@import| on\w+=\"", text)
    assert "style=" not in text


def test_a_placeholder_in_a_title_stays_text(tmp_path: Path) -> None:
    text = page(tmp_path, [video()], title="{{script}} {{data}}")
    assert "<title>{{script}} {{data}}</title>" in text


@pytest.mark.parametrize(
    ("file", "folder", "url"),
    [
        ("/data/run/plots/a.mp4", "/data/run/plots", "a.mp4"),
        ("/data/run/videos/day 1/a%b?c#d.mp4", "/data/run/plots", "../videos/day%201/a%25b%3Fc%23d.mp4"),
        ("/data/run/javascript:x.mp4", "/data/run", "javascript%3Ax.mp4"),
        ("/data/clips/ä.mp4", "/data/run/plots", "../../clips/%C3%A4.mp4"),
        ("/media/disk/a b.mp4", "/home/one/two/three/four/plots", "file:///media/disk/a%20b.mp4"),
        ("/media/a.mp4", "/home/run", "file:///media/a.mp4"),
    ],
)
def test_a_video_is_found_from_the_page_by_a_percent_encoded_address(file: str, folder: str, url: str) -> None:
    assert video_url(file, folder) == url


def test_a_file_name_that_is_no_text_is_addressed_byte_by_byte() -> None:
    assert video_url(os.fsdecode(b"/run/\xff.mp4"), "/run") == "%FF.mp4"


@pytest.mark.parametrize(
    ("videos", "thresholds", "message"),
    [
        ([video(), video()], {}, "two videos have the id 'a'"),
        ([video(duration_seconds=0.0)], {}, "video 'a': its duration is 0.0 s"),
        ([video(fps=math.nan)], {}, "its rate is nan frames/s"),
        ([video(detections=[PageAction(2.0, 1.0, "run", 0.5)])], {}, "'run' from 2.0 to 1.0 s"),
        ([video(detections=[PageAction(0.0, math.inf, "run", 0.5)])], {}, "expected|Expected finite numbers"),
        ([video(detections=[PageAction(0.0, 1.0, "", 0.5)])], {}, "empty label"),
        ([video()], {"run": math.nan}, "class 'run' has the threshold nan"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence_and_writes_nothing(
    tmp_path: Path, videos: list[PageVideo], thresholds: dict[str, float], message: str
) -> None:
    with pytest.raises(EtadError, match=message):
        page(tmp_path, videos, thresholds=thresholds)
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_none_are_never_embedded() -> None:
    with pytest.raises(ValueError):
        embedded_json([math.nan])

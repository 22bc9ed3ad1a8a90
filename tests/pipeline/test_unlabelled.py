"""Videos that are annotated, and in which nothing happens, pass through everything."""

import json
from pathlib import Path

import miniature
import pytest

from etad.pipeline.cli.main import run


def test_a_test_subset_in_which_nothing_happens_is_detected_and_shown_and_never_ends_in_nan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, annotations = miniature.make(tmp_path, num_videos=6)
    tree = json.loads(annotations.read_text())
    for entry in tree["database"].values():
        if entry["subset"] == "validation":
            entry["annotations"] = []
    annotations.write_text(json.dumps(tree))
    out = tmp_path / "run"
    named = ["--annotations", str(annotations), "-o", str(out)]
    options = miniature.set_options("detect.training.epochs=1", "device=cpu")
    assert run(["detect", *named, "--features", str(cache), *options]) == 0
    assert "no evaluation: no video of subset 'validation' has an action" in capsys.readouterr().out
    detections = out / "detect" / "detections.json"
    assert "NaN" not in detections.read_text() and not (out / "detect" / "metrics.json").exists()

    assert run(["evaluate", str(detections), *named]) == 2
    assert "no video of subset 'validation' has an action to evaluate against" in capsys.readouterr().err
    assert run(["plot", "qualitative", *named]) == 2
    assert "no video has both annotated actions and results" in capsys.readouterr().err
    assert run(["plot", "qualitative", *named, "--video", "v05"]) == 0
    assert run(["plot", "page", *named]) == 0
    page = (out / "plots" / "review.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0], parse_constant=pytest.fail)
    assert [video["truth"] for video in data["videos"]] == 2 * [[]]

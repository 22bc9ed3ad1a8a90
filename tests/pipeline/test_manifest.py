"""A run's manifest says what each stage was done with, whenever it was stopped and however many wrote at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import miniature
import pytest
import torch

from etad.data.cache.cache import FeatureCache
from etad.data.digest import file_sha256
from etad.data.errors import EtadError
from etad.data.ranks import Ranks
from etad.pipeline import manifest
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.manifest import note_merge, noting
from etad.pipeline.run_folder import RunFolder
from reference.barcode import write

EXTRACT = [
    *("clips.layout=sliding", "clips.stride_frames=4", "clips.clip_frames=4", "clips.resize=[40, 32]", "clips.crop=32"),
    *("encoder.name=tsm_tiny", "encoder.init=random"),
]


def stages(folder: Path) -> dict[str, Any]:
    read = json.loads((folder / "manifest.json").read_text())
    assert read["format"] == 1
    found: dict[str, Any] = read["stages"]
    return found


def note(
    folder: Path, stage: str = "detect", *sets: str, shard: tuple[int, int] | None = None, digest: str = ""
) -> Any:
    config, cpu = load_config(None, sets), torch.device("cpu")
    return noting(RunFolder(folder), stage, config, device=cpu, files={}, digests={"x": digest}, shard=shard)


@pytest.mark.slow
def test_a_killed_stage_stays_noted_as_begun_until_the_same_command_has_finished_it(tmp_path: Path) -> None:
    cache, annotations = miniature.make(tmp_path)
    sets = miniature.set_options("workers=0", "detect.training.epochs=6", "detect.training.checkpoint_seconds=1e-9")
    data = ["--features", str(cache), "--annotations", str(annotations)]
    out = tmp_path / "run"
    words = ["detect", "-o", str(out), *data, *sets]
    with subprocess.Popen([sys.executable, "-m", "etad", *words], stdout=subprocess.DEVNULL) as killed:
        while not (out / "detect" / "checkpoints" / "last.pt").exists():
            assert killed.poll() is None
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
    begun = stages(out)["detect"]
    assert begun["status"] == "begun" and "finished" not in begun

    assert run(words) == 0
    ended = stages(out)["detect"]
    assert ended["status"] == "finished" and ended["finished"] >= ended["begun"] >= begun["begun"]
    assert {"etad", "python", "torch", "av", "h5py", "numpy"} == ended["versions"].keys()
    assert ended["versions"]["torch"] == torch.__version__
    assert (ended["seed"], ended["device"], ended["processes"]) == (0, "cpu", 1)
    assert ended["digests"] == {
        "annotations": file_sha256(annotations),
        "cache": FeatureCache(cache).digest,
        "weights": "0" * 64,
    }
    assert ended["config"] == begun["config"] and "earlier" not in ended

    # Inference with other settings is done with another config; what trained the weights stays told.
    assert run([*words, "--set", "detect.inference.sigma=0.4"]) == 0
    again = stages(out)["detect"]
    assert again["config"] != ended["config"] and again["earlier"] == [ended]


@pytest.mark.slow
def test_shards_have_entries_of_their_own_which_merge_joins(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "run"
    videos.mkdir()
    for name in "ab":
        write(videos / f"{name}.mp4", range(20))
    words = ["-o", str(out), *(word for value in EXTRACT for word in ("--set", value)), "extract"]
    for shard in ("0/2", "1/2"):
        assert run([*words, "--videos", str(videos), "--shard", shard]) == 0
    assert not (out / "manifest.json").exists() and len(list(out.glob("manifest-extract-*-of-2.json"))) == 2
    assert run(["merge", "--into", str(out / "features.h5")]) == 0
    joined = stages(out)
    assert joined.keys() == {"extract 0/2", "extract 1/2", "merge"}
    assert all(entry["status"] == "finished" for entry in joined.values())
    assert joined["extract 0/2"]["digests"]["weights"] == joined["extract 1/2"]["digests"]["weights"] == "random-seed-0"
    assert joined["merge"]["made"]["cache"] == FeatureCache(out / "features.h5").digest
    assert list(out.glob("manifest-*")) == []

    # The whole is extracted in one process, too, with nothing left to do.
    assert run([*words, "--videos", str(videos)]) == 0
    assert stages(out)["extract"]["made"] == joined["merge"]["made"]


def test_merge_takes_a_shard_that_is_still_at_work_as_begun_and_its_end_at_the_next_merge(tmp_path: Path) -> None:
    run_folder = RunFolder(tmp_path)
    with note(tmp_path, "extract", shard=(1, 3)):
        note_merge(run_folder, manifest.datetime.now(manifest.UTC), "first")
        assert stages(tmp_path)["extract 1/3"]["status"] == "begun"
    note_merge(run_folder, manifest.datetime.now(manifest.UTC), "second")
    assert stages(tmp_path)["extract 1/3"]["status"] == "finished"
    assert "earlier" not in stages(tmp_path)["extract 1/3"]
    assert stages(tmp_path)["merge"]["made"] == {"cache": "second"}
    assert list(tmp_path.glob("manifest-*")) == []


def test_a_cache_outside_a_run_folder_gets_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    cache, _ = miniature.make(tmp_path / "a")
    assert run(["merge", str(cache), "--into", str(tmp_path / "features.h5")]) == 0
    assert not (tmp_path / "manifest.json").exists()


def test_stages_that_note_at_once_lose_no_entry_of_each_other(tmp_path: Path) -> None:
    def noted(number: int) -> None:
        with note(tmp_path, f"stage{number}"):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(noted, range(24)))
    assert {entry["status"] for entry in stages(tmp_path).values()} == {"finished"}
    assert stages(tmp_path).keys() == {f"stage{number}" for number in range(24)}


def test_an_error_leaves_the_stage_begun(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match="no room"), note(tmp_path):
        raise EtadError("no room")
    assert stages(tmp_path)["detect"]["status"] == "begun"


def test_what_a_stage_was_done_with_before_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def done(digest: str) -> None:
        with note(tmp_path, digest=digest) as entry:
            entry["made"]["cache"] = "another each time " + entry["begun"]

    for digest in ("a", "a", "b", "a", "b"):
        done(digest)
    assert [entry["digests"]["x"] for entry in stages(tmp_path)["detect"]["earlier"]] == ["a"]
    monkeypatch.setattr(manifest, "version", lambda library: "9.9")
    done("b")
    entry = stages(tmp_path)["detect"]
    assert entry["versions"]["av"] == "9.9"
    assert [each["digests"]["x"] for each in entry["earlier"]] == ["a", "b"]
    assert all("earlier" not in each for each in entry["earlier"])


def test_of_processes_that_work_together_the_first_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "current_ranks", lambda: Ranks(1, 2))
    with note(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(manifest, "current_ranks", lambda: Ranks(0, 2))
    with note(tmp_path):
        pass
    assert stages(tmp_path)["detect"]["processes"] == 2


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"stages": []}', '{"stages": {"detect": 1}}', "\0"])
def test_a_damaged_manifest_is_kept_under_another_name_and_stops_no_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = tmp_path / "manifest.json"
    for number in (1, 2):
        path.write_text(content)
        with note(tmp_path):
            pass
        assert stages(tmp_path)["detect"]["status"] == "finished"
        assert (tmp_path / f"manifest.json.damaged-{number}").read_text() == content
        assert f"It is kept as manifest.json.damaged-{number}" in caplog.text


def test_a_manifest_that_cannot_be_read_is_not_renamed(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(EtadError, match="cannot be read"), note(tmp_path):
        pass
    assert [path.name for path in tmp_path.glob("manifest.json*")] == ["manifest.json"]

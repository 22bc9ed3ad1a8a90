"""A run keeps to the settings that it was made with."""

import threading
import tomllib
from pathlib import Path

import pytest
import tomli_w

from etad.data.errors import EtadError
from etad.pipeline.config import load_config, settle
from etad.pipeline.run_folder import RunFolder


def bind(run: RunFolder, stage: str, *sets: str) -> dict[str, object]:
    config = load_config(None, sets)
    with run.bind(stage, config) as bound:
        run.remember(config, stage)
        run.cache.touch()
        (run.path / stage).mkdir(exist_ok=True)
        return bound


def test_what_shapes_weights_is_refused_and_the_rest_is_free(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    bind(run, "detect", "detect.training.lr=1e-3")
    for free in (
        "detect.inference.sigma=0.5",  # inference
        "detect.sampling.inference_ratio=0.5",
        "detect.labels.top=1",
        "detect.tious=[0.5]",
        "data.test_subset=testing",
        "detect.inference.batch=3",  # runtime
        "detect.training.epochs=9",
        "detect.training.memory_gib=1",
        "data.annotations=elsewhere.json",
        "clips.crop=96",  # another stage's
        "e2e.ratio=0.1",
        "pretrain.lr=1",
        "workers=0",
    ):
        bind(run, "detect", free)
    for key, value in {"seed": 1, "detect.bins": 8, "detect.training.lr": 0.1, "data.train_subset": "x"}.items():
        with pytest.raises(EtadError, match=f"`detect` was made with another config: {key} is {value}, was"):
            bind(run, "detect", f"{key}={value}")


def test_features_depend_on_what_is_inference_in_training(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for stage in ("extract", "e2e"):
        bind(run, stage)
    bind(run, "e2e", "encoder.precision=float32")
    with pytest.raises(EtadError, match=r"encoder\.precision is float32, was auto"):
        bind(run, "extract", "encoder.precision=float32")
    bind(run, "extract", "encoder.frozen_stages=0", "extract.workers=0")
    with pytest.raises(EtadError, match=r"encoder\.frozen_stages is 0, was 2"):
        bind(run, "e2e", "encoder.frozen_stages=0")


def test_a_setting_that_the_run_did_not_know_had_its_default_and_changes_no_digest(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    bind(run, "detect")
    noted = tmp_path / ".detect.toml"
    tree = tomllib.loads(noted.read_text())
    del tree["detect"]["window_stride"], tree["data"]["train_subset"]
    tree["detect"]["of_a_later_version"] = 3
    noted.write_text(tomli_w.dumps(tree))
    del tree["format"]
    assert bind(run, "detect") == tree
    with pytest.raises(EtadError, match=r"detect\.window_stride is 32, was 64"):
        bind(run, "detect", "detect.window_stride=32")
    with pytest.raises(EtadError, match=r"data\.train_subset is x, was training"):
        bind(run, "detect", "data.train_subset=x")


def test_a_run_of_the_first_format_is_held_to_what_it_noted(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for stage in ("detect", "extract", "pretrain"):
        bind(run, stage)
    (tmp_path / ".detect.toml").write_text("seed = 0\n[detect]\nnum_stages = 3\n")
    (tmp_path / ".extract.toml").write_text("[encoder]\nname = 'tsm_r50'\n[clips]\ncrop = 112\n")
    (tmp_path / ".pretrain.toml").write_text("seed = 0\n[clips]\nclip_frames = 16\n")
    assert bind(run, "detect", "detect.in_channels=512") == {"seed": 0, "detect": {"num_stages": 3}}
    bind(run, "extract", "encoder.precision=float32")
    bind(run, "pretrain", "clips.crop=96")
    with pytest.raises(EtadError, match=r"detect\.num_stages is 2, was 3"):
        bind(run, "detect", "detect.num_stages=2")
    with pytest.raises(EtadError, match=r"clips\.crop is 96, was 112"):
        bind(run, "extract", "clips.crop=96")
    with pytest.raises(EtadError, match=r"clips\.clip_frames is 8, was 16"):
        bind(run, "pretrain", "clips.clip_frames=8")


def test_a_released_runs_unknown_settings_had_the_releases_defaults(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    bind(run, "e2e", "release=true")
    noted = tmp_path / ".e2e.toml"
    tree = tomllib.loads(noted.read_text())
    assert tree["e2e"].pop("chunk") == 4
    noted.write_text(tomli_w.dumps(tree))
    bind(run, "e2e", "release=true")


@pytest.mark.parametrize("content", ["seed = [", "\udcff", "a = 1\na = 2"])
def test_a_damaged_note_of_the_config_gets_a_sentence(tmp_path: Path, content: str) -> None:
    run = RunFolder(tmp_path)
    bind(run, "detect")
    for name in (".detect.toml", "config.toml"):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(EtadError, match=f"{name}: cannot read what this run was made with"):
            bind(run, "detect")
        (tmp_path / name).write_bytes(kept)


def test_a_stage_that_made_nothing_binds_nobody_to_its_config(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for ratio in (0.01, 0.2):
        with run.bind("e2e", load_config(None, [f"e2e.ratio={ratio}"])):
            pass
    run.e2e.mkdir()
    with (
        pytest.raises(EtadError, match=r"`e2e` was made with another config: e2e\.ratio is 0\.3, was 0\.2"),
        run.bind("e2e", load_config(None, ["e2e.ratio=0.3"])),
    ):
        pytest.fail("bound to a contradicting config")


def test_a_stage_that_runs_keeps_others_from_it_but_shards_only_take_turns_to_bind(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with (
        run.bind("detect", load_config(None, ["seed=1"])),
        pytest.raises(EtadError, match=r"running `detect` since .* holds this lock"),
        run.bind("detect", load_config(None, ["seed=2"])),
    ):
        pytest.fail("two trained in one folder")
    assert "seed = 1" in (tmp_path / ".detect.toml").read_text()
    entered = threading.Event()

    def shard() -> None:
        with run.bind("extract", load_config()):
            entered.set()

    other = threading.Thread(target=shard)
    with run.bind("extract", load_config()):
        other.start()
        assert not entered.wait(0.2)
    other.join()
    assert entered.is_set()
    assert not list(tmp_path.glob("*.lock")) and not list(tmp_path.glob(".*.lock"))


def known(run: RunFolder) -> dict[str, object]:
    tree = run.known_config()
    assert tree is not None
    return settle(tree, where="run").model_dump()


def test_a_run_folder_knows_its_config(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.known_config() is None
    bind(run, "extract", "clips.crop=96", "device=cuda:7", "workers=9", "data.videos=clips")
    found = known(run)
    assert found["clips"]["crop"] == 96
    assert (found["device"], found["workers"]) == ("auto", 2)  # of the call
    assert found["data"]["videos"] == Path.cwd() / "clips"


def test_a_stage_never_resets_what_an_earlier_one_recorded(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    bind(run, "pretrain", "pretrain.steps=7")
    bind(run, "extract", "clips.crop=96", "pretrain.steps=8")
    bind(run, "detect", "detect.bins=8")
    found = known(run)
    assert found["pretrain"]["steps"] == 7
    assert found["clips"]["crop"] == 96
    assert found["detect"]["bins"] == 8
    bind(run, "detect", "detect.bins=8", "detect.tious=[0.3]")
    assert known(run)["detect"]["tious"] == (0.3,)


def test_settings_that_are_changed_count_and_what_a_call_told_stays(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.settings.write_text('seed = 3\n[data]\nannotations = "a.json"\n[detect]\nbins = 8\ntious = [0.5]\n')
    assert known(run)["data"]["annotations"] == tmp_path / "a.json"
    tree = run.known_config()
    assert tree is not None
    config = settle(tree, ["detect.training.epochs=40", "detect.tious=[0.3]"], where="run")
    with run.bind("detect", config):
        run.remember(config, "detect")
        run.detect.mkdir()
    assert known(run)["detect"]["training"]["epochs"] == 40
    assert known(run)["detect"]["tious"] == (0.3,)
    run.settings.write_text('[data]\nannotations = "b.json"\n[detect]\nbins = 8\ntious = [0.5]\nnum_stages = 2\n')
    found = known(run)
    assert found["data"]["annotations"] == tmp_path / "b.json"
    assert found["detect"]["num_stages"] == 2
    assert found["detect"]["tious"] == (0.3,)  # not changed in the settings since
    assert found["detect"]["training"]["epochs"] == 40
    assert found["seed"] == 0  # taken out again


def test_a_run_folder_with_settings_can_move(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "old")
    run.path.mkdir()
    run.settings.write_text('[data]\nannotations = "a.json"\n')
    tree = run.known_config()
    assert tree is not None
    with run.bind("detect", config := settle(tree, where="run")):
        run.remember(config, "detect")
        run.detect.mkdir()
    moved = RunFolder(run.path.rename(tmp_path / "new"))
    assert known(moved)["data"]["annotations"] == tmp_path / "new/a.json"


def test_a_config_that_was_emptied_is_not_taken_for_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# nothing\n")
    with pytest.raises(EtadError, match="is empty, and held what this run is"):
        RunFolder(tmp_path).known_config()

import re
import tomllib
from pathlib import Path

import pytest

from etad.data.errors import EtadError
from etad.pipeline.config import load_config, override, preset_names
from etad.pipeline.device import choose_device


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_survives_being_written(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert load_config(str(tmp_path / "config.toml")) == config


def test_overrides_are_toml_values_and_bare_words_are_strings() -> None:
    sets = ["detect.training.epochs=3", "encoder.name=tsm_r18", "detect.tious=[0.3, 0.5]", "clips.resize=128"]
    config = load_config("thumos14", sets)
    assert config.detect.training.epochs == 3
    assert config.encoder.name == "tsm_r18"
    assert config.detect.tious == (0.3, 0.5)
    assert config.clips.resize == 128
    assert config.detect.max_duration == 64  # the preset's own


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    with pytest.raises(EtadError, match=r"unknown key 'detect.training.epoch'\. Did you mean 'epochs'\? Known here: "):
        load_config(None, ["detect.training.epoch=3"])
    with pytest.raises(EtadError, match=r"unknown key 'detct'\. Did you mean 'detect'\?"):
        load_config(None, ["detct.x=1"])


def test_a_value_that_does_not_fit_names_key_and_value() -> None:
    with pytest.raises(EtadError, match=r"detect\.num_stages=7: Input should be less than or equal to 4"):
        load_config(None, ["detect.num_stages=7"])
    for asked, said in (
        (
            "encoder=tsm_tiny",
            r"encoder='tsm_tiny': this is a group of settings; set one of .*encoder\.name",
        ),
        ("detect.tious=0.5", r"detect\.tious=0\.5: expected a list, such as \[1, 2\]"),
        ("clips.resize=big", r"clips\.resize='big': expected a list, such as \[1, 2\] or a whole number"),
        ("clips.resize=[48,'a']", r"clips\.resize\.1='a': expected a whole number"),
        ("clips.resize=[1,2,3]", r"clips\.resize=\[1, 2, 3\]: Tuple should have at most 2 items"),
        ("encoder.also=[1]", r"encoder\.also\.0=1: this is a group of settings"),
        ("seed=1.5", r"seed=1\.5: expected a whole number"),
        ("seed=1e99", r"seed=1e\+99: expected a whole number"),
        ("detect.training.lr=fast", r"detect\.training\.lr='fast': expected a number"),
        ("detect.standardise=perhaps", r"detect\.standardise='perhaps': expected true or false"),
    ):
        with pytest.raises(EtadError, match=said):
            load_config(None, [asked])
    with pytest.raises(EtadError, match=r"max_duration=128 is longer than num_snippets=64"):
        load_config(None, ["detect.num_snippets=64"])
    with pytest.raises(EtadError, match="expected KEY=VALUE"):
        load_config(None, ["detect.num_stages"])
    with pytest.raises(EtadError, match="'seed' holds a value, not a group"):
        load_config(None, ["seed=1", "seed.a=1"])


def test_an_unknown_preset_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(EtadError, match=r"neither a preset nor a TOML file\. Did you mean 'thumos14'\?"):
        load_config("thumos")
    bad = tmp_path / "bad.toml"
    bad.write_text("a = [")
    with pytest.raises(EtadError, match=r"bad\.toml: no valid TOML"):
        load_config(str(bad))


def test_files_inherit_and_their_paths_are_relative_to_them(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "thumos14"\n[data]\nannotations = "a.json"\n[detect.training]\nepochs = 2\n')
    config = load_config(str(mine))
    assert config.data.annotations == tmp_path / "a.json"
    assert config.detect.training.epochs == 2
    assert config.detect.training.optimizer == "adam"
    loop = tmp_path / "loop.toml"
    loop.write_text(f'base = "{loop}"\n')
    with pytest.raises(EtadError, match="based on itself"):
        load_config(str(loop))


def test_a_path_on_the_command_line_is_relative_to_the_place_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, ["data.annotations=a.json"]).data.annotations == tmp_path / "a.json"


def test_only_a_true_release_selects_it() -> None:
    assert load_config(None, ["release=False"]).detect.preset == "paper"
    assert load_config(None, ["release=True"]).detect.preset == "release"
    with pytest.raises(EtadError, match="detect=5"):
        load_config(None, ["detect=5", "release=true"])


def test_an_override_changes_its_key_alone() -> None:
    config = load_config("thumos14")
    changed = override(config, "clips.still=true")
    assert changed.clips.still
    assert changed.model_copy(update={"clips": config.clips}) == config


def test_release_selects_the_released_models_choices() -> None:
    assert load_config("activitynet-tsp").detect.roi_bins == 32
    released = load_config("activitynet-tsp", ["release=true"]).detect
    assert (released.preset, released.roi_bins, released.scores_boundaries) == ("release", 24, False)


def test_release_augments_as_the_released_model_does() -> None:
    paper, released = load_config("activitynet-e2e-tsp").e2e, load_config("activitynet-e2e-tsp", ["release=true"]).e2e
    assert (paper.crop, paper.flip_probability, paper.jitter_frames, paper.per_video) == ("random", 0, 0, False)
    assert paper.rand_augment.operations == 0 and set(paper.colour_jitter.model_dump().values()) == {0}
    assert (released.crop, released.flip_probability, released.jitter_frames, released.per_video) == (
        "random",
        0.5,
        0,
        True,
    )
    assert released.rand_augment.model_dump() == {"operations": 2, "magnitude": 9, "magnitude_std": 0}
    jitter = released.colour_jitter
    assert (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == (0.5, 0.5, 0.5, 0.1)


def test_release_leaves_what_is_set_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("release = true\n[e2e]\ncrop = 'centre'\n[e2e.rand_augment]\nmagnitude = 5\n")
    chosen = load_config(str(mine), ["e2e.colour_jitter.hue=0", "e2e.chunk=1"]).e2e
    assert (chosen.crop, chosen.chunk, chosen.flip_probability) == ("centre", 1, 0.5)
    assert (chosen.rand_augment.operations, chosen.rand_augment.magnitude) == (2, 5)
    assert (chosen.colour_jitter.brightness, chosen.colour_jitter.hue) == (0.5, 0)
    assert load_config(None, ["release=true", "e2e.rand_augment.operations=0"]).e2e.rand_augment.operations == 0
    # A run's own config, read again, is the same.
    again = tmp_path / "again.toml"
    again.write_text(load_config(str(mine)).to_toml())
    assert load_config(str(again)) == load_config(str(mine))
    for wrong, said in (
        ("rand_augment.operations=16", "operations=16"),
        ("colour_jitter.hues=1", "Did you mean 'hue'"),
    ):
        with pytest.raises(EtadError, match=said):
            load_config(None, ["release=true", f"e2e.{wrong}"])


def test_the_resolved_config_is_toml() -> None:
    tree = tomllib.loads(load_config("thumos14").to_toml())
    assert tree["detect"]["training"]["clip_norm"] == 1.0


def test_old_names_of_settings_still_mean_them(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("base = 'thumos14'\n[detect.inference]\nkeep = 7\n")
    assert load_config("thumos14").detect.inference.max_detections == 200
    assert load_config(str(mine)).detect.inference.max_detections == 7
    assert load_config("thumos14", ["detect.inference.keep=8"]).detect.inference.max_detections == 8
    assert load_config(None, ["e2e.keep=graphs"]).e2e.first_pass_cache == "graphs"
    with pytest.raises(EtadError, match=r"e2e\.first_pass_cache='x'"):
        load_config(None, ["e2e.keep=x"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("training.epochs=3", "'detect.training.epochs'"),
        ("epochs=3", "'detect.training.epochs' or 'e2e.epochs'"),
        ("detect.epochs=3", "'detect.training.epochs' or 'e2e.epochs'"),
        ("sigma=1", "'detect.inference.sigma'"),
        ("sampling.ratio=1", "'detect.sampling.ratio'"),
        ("detect.training.epoch=3", "'epochs'"),
        ("detct.x=3", "'detect'"),
    ],
)
def test_a_key_without_its_group_is_told_where_it_belongs(given: str, meant: str) -> None:
    with pytest.raises(EtadError, match=f"unknown key .* Did you mean {meant}"):
        load_config(None, [given])


@pytest.mark.parametrize("name", ["THUMOS14", "Thumos14", "DEMO", "ActivityNet-TSP"])
def test_a_preset_in_other_case_is_told_its_name(name: str) -> None:
    with pytest.raises(EtadError, match=f"Did you mean '{name.lower()}'"):
        load_config(name)


def test_a_config_that_an_editor_marked_by_its_byte_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 4\n")
    assert load_config(str(path)).seed == 4


def test_more_workers_than_any_machine_feeds_are_refused() -> None:
    with pytest.raises(EtadError, match=r"workers=500: expected at most 128: each holds in memory"):
        load_config(None, ["workers=500"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu", "there is no device 'gpu'. Did you mean 'cuda'? Expected"),
        ("GPU:0", "Did you mean 'cuda'?"),
        ("cpuu", "Did you mean 'cpu'?"),
        ("fpga", "there is no device 'fpga'. Expected auto, cpu, cuda or cuda:N."),
        ("cuda:x", "device 'cuda:x' cannot be used here"),
    ],
)
def test_a_device_that_is_none_gets_a_sentence(name: str, said: str) -> None:
    with pytest.raises(EtadError, match=re.escape(said)):
        choose_device(name)


@pytest.mark.parametrize("value", ["clips.crop='wide'", "clips.crop=[1, 2, 3]", "clips.crop=-5", "clips.resize={a=1}"])
def test_a_value_of_no_allowed_kind_is_told_by_its_key_alone(value: str) -> None:
    with pytest.raises(EtadError, match=r"clips\.(crop|resize)(\.\d)?[=:]") as caught:
        load_config("demo", [value])
    assert "constrained" not in str(caught.value).split(":")[1] and "tuple[" not in str(caught.value).split("=")[0]

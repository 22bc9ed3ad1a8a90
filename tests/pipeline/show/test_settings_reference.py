"""The reference of settings is complete, and docs/config.md is the current one."""

import tomllib

import pytest
from conftest import ROOT

from etad.data.errors import EtadError
from etad.data.settings import marks
from etad.pipeline.cli.main import run
from etad.pipeline.config import Config, load_config, preset_names
from etad.pipeline.show.settings_reference import markdown, rows_of, setting_rows


def test_docs_config_is_what_the_settings_say() -> None:
    written = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    assert written == markdown(), "write it again: etad config --markdown > docs/config.md"


def test_every_setting_has_a_type_a_default_and_a_meaning() -> None:
    rows = setting_rows()
    assert [row.key for row in rows] == [key for key, _ in marks(Config)]
    assert [row.key for row in rows if not row.meaning or not row.type or "typing" in row.type] == []
    defaults = [f"{row.key}={row.default}" for row in rows if row.default != "-"]
    assert load_config(None, defaults) == Config()


def test_a_key_is_explained_and_a_group_and_a_mistake_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "detect.training.epochs"]) == 0
    said = capsys.readouterr().out
    assert "detect.training.epochs (whole number; by default 6)" in said
    assert "When changed: free." in said
    assert {row.key for row in rows_of("detect.sampling")} == {
        f"detect.sampling.{name}" for name in ("strategy", "ratio", "inference_ratio")
    }
    for mistake, meant in {
        "epochs": "'detect.training.epochs' or 'e2e.epochs'",
        "detect.sampling.ration": "'detect.sampling.ratio'",
        "training": "'detect.training'",
    }.items():
        with pytest.raises(EtadError, match=f"no setting '{mistake}'. Did you mean {meant}"):
            rows_of(mistake)
    assert run(["config", "THUMOS14"]) == 2
    assert "Did you mean 'thumos14'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", preset_names()[:2])
def test_a_preset_is_shown_whole_with_overrides(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", name, "--set", "detect.bins=8"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == load_config(name, ["detect.bins=8"]).to_tree()

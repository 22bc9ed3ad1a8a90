"""Commands that compute nothing answer soon: they start without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

VIDEO = {"duration": 10.0, "subset": "test", "annotations": [{"segment": [1, 2], "label": "wave"}]}
BLOCKED = "import sys; sys.modules['torch'] = None; from etad.pipeline.cli.main import run; sys.exit(run({arguments}))"


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["plot", "page", "-o", "run", "--results", "found.json", "--annotations", "truth.json"], "wrote "),
        (["evaluate", "found.json", "--annotations", "truth.json", "--subset", "test"], "mAP %"),
    ],
    ids=["plot", "evaluate"],
)
def test_looking_at_results_loads_no_torch(arguments: list[str], printed: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"database": {"a": VIDEO}}))
    found = {"a": [{"segment": [1, 2], "score": 0.5, "label": "wave"}]}
    (tmp_path / "found.json").write_text(json.dumps({"results": found}))
    called = [sys.executable, "-c", BLOCKED.format(arguments=arguments)]
    done = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and printed in done.stdout, done.stderr

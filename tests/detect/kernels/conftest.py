import pytest

from etad.detect.kernels import evaluation


@pytest.fixture(autouse=True)
def _table_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Miniatures have so few proposals that none would take the table."""
    monkeypatch.setattr(evaluation, "FEW", 0)

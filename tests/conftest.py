"""Where tests find the real videos, annotations and golden numbers."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Jobs in the background inherit that SIGINT is ignored; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# As the command line does, and before any test imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data: ETAD_TEST_DATA, or ../shared beside the clone.

    Absent: the test skips with the reason. Named by the variable but incomplete: it fails.
    """
    named = os.environ.get("ETAD_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared"
    if not named and not folder.is_dir():
        pytest.skip("real test data is absent: set ETAD_TEST_DATA to its folder")
    for part in ("annotations", "detections", "goldens", "videos/actions", "videos/hostile"):
        if not (folder / part).is_dir():
            pytest.fail(f"ETAD_TEST_DATA={folder} has no folder {part}")
    return folder


@pytest.fixture(scope="session")
def reports(shared: Path) -> Path:
    """Folder of small files that people reported, with what is right of each."""
    folder = shared / "reports"
    if not folder.is_dir():
        pytest.fail(f"{shared} has no folder reports")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _few_proposals_take_the_table() -> Iterator[None]:
    """Miniatures have so few proposals that hardly any would go the way that real ones do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etad.detect.kernels.evaluation.FEW", 0)
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread_is_enough() -> None:
    """Tiny tensors run fastest on few threads, and results then do not depend on the machine's core count.

    Where several processes share the tests, one each: they keep the cores busy as it is.
    """
    import torch

    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Convolutions of a few pixels take ten times as long on two threads, where other work keeps the cores busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

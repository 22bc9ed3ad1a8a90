"""What end-to-end training refuses before it begins."""

import pytest

from etad.data.errors import EtadError
from etad.pipeline.config import load_config
from etad.pipeline.e2e.checks import check_start


def test_a_fresh_detector_cannot_standardise_what_nobody_has_measured() -> None:
    check_start(load_config(None), None)
    with pytest.raises(EtadError, match=r"this training starts from a fresh detector\. Run `etad detect` first"):
        check_start(load_config(None, ["detect.standardise=true"]), None)

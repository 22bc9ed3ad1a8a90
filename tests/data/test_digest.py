import hashlib
from pathlib import Path

import pytest
import torch

from etad.data.digest import file_sha256, tensors_digest, values_digest
from etad.data.errors import EtadError


def test_tensors_are_told_apart_by_names_and_elements_not_by_order_or_layout() -> None:
    weight, bias = torch.arange(6.0).reshape(2, 3), torch.ones(2)
    digest = tensors_digest({"weight": weight, "bias": bias})
    assert tensors_digest({"bias": bias, "weight": weight.t().contiguous().t().requires_grad_()}) == digest
    others = [{"weight": weight, "scale": bias}, {"weight": weight + 1e-6, "bias": bias}, {"weight": weight}]
    assert len({digest, *map(tensors_digest, others)}) == 4


def test_values_that_json_does_not_know_are_told_apart_too(tmp_path: Path) -> None:
    assert values_digest({"at": tmp_path / "a"}) != values_digest({"at": tmp_path / "b"})


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than one piece
    (tmp_path / "a.mp4").write_bytes(content)
    assert file_sha256(tmp_path / "a.mp4") == hashlib.sha256(content).hexdigest()
    with pytest.raises(EtadError, match=r"b\.mp4: the file cannot be read"):
        file_sha256(tmp_path / "b.mp4")

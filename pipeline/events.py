"""Training logs as TensorBoard events, where the optional extra `tensorboard` is installed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from ..data.errors import EtadError
from ..detect.run_state import TrainingFiles, read_log


def require_tensorboard() -> None:
    """Refuse to write events where nothing can write them.

    Raises
    ------
    EtadError
        The extra is missing.
    """
    if find_spec("tensorboard") is None:
        raise EtadError(
            "tensorboard=true, but TensorBoard is not installed: pip install 'etad[tensorboard]', or leave the setting "
            "out. The training's figures are in log.jsonl either way."
        )


class TrainingEvents:
    """A training's `log.jsonl` as TensorBoard events, in a folder of their own beside it.

    Parameters
    ----------
    files
        Of the training.
    """

    def __init__(self, files: TrainingFiles) -> None:
        require_tensorboard()
        self._log, self._written = files.log, 0
        self.folder = files.folder / "events"

    def update(self) -> None:
        """Write the epochs that the log has gained; at first all of them, in place of what lay there."""
        lines = read_log(self._log) if self._log.exists() else []
        if self._written == 0:
            for path in self.folder.glob("events.out.tfevents.*"):
                path.unlink()
        if len(lines) == self._written:
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self.folder)) as writer:
            for line in lines[self._written :]:
                for name, value in scalars(line):
                    writer.add_scalar(name, value, line["epoch"])
        self._written = len(lines)


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of everything in a line of the log that is a number; parts of a group are joined by a slash.

    Examples
    --------
    >>> list(scalars({"epoch": 1, "lr": 0.1, "train": {"loss": 2.0}, "val_loss": None}))
    [('lr', 0.1), ('train/loss', 2.0)]
    """
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{part}", each) for part, each in scalars(value))
        elif (
            isinstance(value, int | float) and not isinstance(value, bool) and name != "epoch" and math.isfinite(value)
        ):
            yield name, float(value)

"""Videos that are replaced, deleted or cut while they are read: what was made of them never passes for the others'.

ETAD_FAULT_SEED and ETAD_FAULT_VIDEOS say what is tried; `make faults` tries more.
"""

from __future__ import annotations

import functools
import random
import shutil
from pathlib import Path

import pytest
from faults import chain
from faults.table import Tally, count

VIDEOS = count("VIDEOS", 2)
KINDS = ("replaced", "overwritten", "deleted", "cut")


def spoil(video: Path, how: str, chance: random.Random) -> None:
    """Do to a video what another program may while it is read."""
    other = chance.choice(sorted(set(video.parent.iterdir()) - {video}))
    if how == "replaced":
        shutil.copyfile(other, video.parent / "new")
        (video.parent / "new").replace(video)
    elif how == "overwritten":
        video.write_bytes(other.read_bytes())
    elif how == "deleted":
        video.unlink()
    else:
        with video.open("r+b") as file:
            file.truncate(chance.randrange(video.stat().st_size))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["extract", "e2e"])
def test_a_video_spoilt_while_it_is_read_never_passes_for_whole(
    stage: str, whole: chain.Undisturbed, tmp_path: Path
) -> None:
    data = chain.copy(whole.folder, tmp_path / "data")
    for later in ("e2e",) if stage == "e2e" else ("e2e", "detect"):
        shutil.rmtree(data / later)
    if stage == "extract":
        (data / "features.h5").unlink()
    undisturbed = chain.undisturbed(data, tmp_path / "whole", (stage,))
    tally = Tally(f"videos spoilt during {stage}")
    chance = tally.chance
    for number in range(max(1, round(VIDEOS * (0.75 if stage == "extract" else 0.25)))):
        folder = chain.copy(data, tmp_path / "run")
        video, how = chance.choice(sorted((folder / "videos").iterdir())), KINDS[number % len(KINDS)]
        moment = chance.uniform(0, 1) * undisturbed.seconds
        child = undisturbed.begin(folder)
        over = child.is_over_after(moment)
        spoil(video, how, chance)
        ended = child.end()
        note = f"{video.name} {how} after {moment:.3f} s"
        shutil.copy2(data / "videos" / video.name, video)
        if ended.fault is not None:
            tally.add(ended.fault, note, ended.said)
        elif stage == "e2e" and ended.status == 1:
            tally.add("survived", note)  # trained without that video, and said so
        else:
            note += f" ({'over' if over else 'running'}), status {ended.status}"
            again = undisturbed.again(folder)
            if (ended.status, again.status) == (0, 2) and "Choose another run folder" in again.said:
                # Replaced before it was looked at: done with what stood there, and the other video is told from it.
                tally.add("survived", note)
                shutil.rmtree(folder)
                continue
            tally.add_resumed(again, functools.partial(undisturbed.came_to, folder), undisturbed.outcome, note)
        shutil.rmtree(folder)
    tally.require_survival()

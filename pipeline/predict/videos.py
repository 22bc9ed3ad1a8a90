"""Which videos a command line means, and what the files of each are called."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...data.cache.names import escape, part_name
from ...data.errors import EtadError
from ...data.video.video import find_videos

# A file name may have 255 bytes, and takes a suffix yet.
_LONGEST_NAME = 180


def find_inputs(words: Sequence[str | Path]) -> tuple[dict[str, Path], str]:
    """Find video files by id: files, folders of them, and patterns such as `clips/*.mp4`.

    Returns
    -------
    files, passed_over
        Ids are stems; files that share one are told apart by their paths. A line on files that are no videos.

    Raises
    ------
    EtadError
        There is nothing where a word says.
    """
    paths: list[Path] = []
    notes = []
    for word in words:
        places = [Path(word)]
        if not places[0].exists() and glob.has_magic(str(word)):
            # Path.glob takes no absolute pattern.
            places = [Path(each) for each in sorted(glob.glob(str(word), recursive=True))]  # noqa: PTH207
        for place in places:
            if place.is_dir():
                found = find_videos(place)
                paths += found.files.values()
                notes += [found.passed_over_text()]
            elif place.exists():
                paths.append(place)
        if not places or not places[0].exists():
            raise EtadError(f"{word}: there is no such file or folder of videos. Check the path.")
    own = list({os.path.realpath(path): path for path in paths}.values())
    stems = Counter(path.stem for path in own)
    shared = [path.absolute() for path in own if stems[path.stem] > 1]
    above = Path(os.path.commonpath(shared)) if shared else Path()
    files = {path.stem: path for path in own if stems[path.stem] == 1}
    files |= {path.relative_to(above).as_posix(): path for path in shared}
    return dict(sorted(files.items())), "; ".join(filter(None, notes))


def file_stem(video_id: str) -> str:
    """Name the files of a video: its id where that is a plain name, else the id escaped.

    Examples
    --------
    >>> file_stem("my clip"), file_stem("../a"), file_stem("day2/x.mp4")
    ('my clip', '%2E.%2Fa', 'day2%2Fx.mp4')
    """
    plain = video_id.isprintable() and not set(video_id) & set('/\\%:*?"<>|') and not video_id.startswith(".")
    name = video_id if plain else escape(video_id)
    return name if len(name.encode()) <= _LONGEST_NAME else part_name(video_id).removesuffix(".h5")

"""Frames for end-to-end training: which videos there are, and the clips of each window, read ahead by threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from ...data.cache.source import Snippets
from ...data.errors import EtadError
from ...data.progress import progress_bar
from ...data.timeline import Timeline, Timing
from ...data.video.files import FileStamp, file_stamp
from ...data.video.transforms import sample_generator
from ...data.video.video import probe
from ...detect.windows import Window
from ...extract.clips import Augmentation, ClipPlan, Failure, read_clips
from ...extract.frozen import FrozenCache
from ...extract.prefetch import in_order


def probe_snippets(
    files: Mapping[str, Path], plan: ClipPlan, *, folder: Path, workers: int
) -> tuple[Snippets, list[Failure]]:
    """Open every video to learn where its snippets stand.

    Returns
    -------
    snippets, failures
        Of the videos that can be opened, and the others.
    """

    def look(item: tuple[str, Path]) -> Timeline | Failure:
        try:
            return plan.timeline(probe(item[1]))
        except EtadError as error:
            return Failure(item[0], item[1], str(error))

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        looked = pool.map(look, files.items())
        found = list(progress_bar("e2e: open", looked, unit="video", total=len(files)))
    timelines = {id: each for id, each in zip(files, found) if isinstance(each, Timeline)}
    timings = {id: Timing.of(timeline) for id, timeline in timelines.items()}
    lengths = {id: timeline.num_snippets for id, timeline in timelines.items()}
    return Snippets(folder, timings, lengths), [each for each in found if isinstance(each, Failure)]


class TrainingClips:
    """The frames of training windows; what is drawn for one depends on seed, epoch and window alone.

    Parameters
    ----------
    files
        Video files by the windows' cache ids.
    stamps
        What the files were like before anything of them was read.
    workers
        Threads that read ahead; each holds the frames of a window.
    frozen, draws
        Where the outputs of the frozen stages are kept, and in how many draws of augmentation, which epochs take in
        turn; none: every epoch draws anew.
    digests
        SHA-256 of each video file, where outputs are kept.

    Attributes
    ----------
    lost_ticks
        By video, when frames were due that could not be decoded rightly, as far as has been read.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        files: Mapping[str, Path],
        plan: ClipPlan,
        *,
        stamps: Mapping[str, FileStamp | None],
        augment: Augmentation,
        seed: int,
        workers: int,
        frozen: FrozenCache | None = None,
        draws: int = 1,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self.frozen, self.draws, self.digests = frozen, draws, digests or {}
        self.windows, self.files, self.plan, self.stamps = windows, files, plan, stamps
        self.augment, self.seed, self.workers = augment, seed, workers
        self.lost_ticks: dict[str, set[int]] = {}
        if frozen is not None:  # so that the bound on its size holds whatever lay there before
            frozen.keep_only({self._key(number, draw) for number in range(len(windows)) for draw in range(draws)})

    def of(self, order: Sequence[Sequence[int]], epoch: int) -> Iterator[list[Tensor | Failure]]:
        """Yield the frames, uint8 (T, L, H, W, 3), of each list of window numbers; a failure where there are none.

        Where the outputs of the frozen stages are kept, they come in place of frames: half (T, L, H, W, C).
        """

        def parts(number: int) -> list[Iterator[Tensor | Failure]]:
            return [map(self._read, (number,), (epoch,))]

        jobs = ((number,) for numbers in order for number in numbers)
        items = in_order(parts, jobs, workers=self.workers, ahead=1)
        for numbers in order:
            yield [self._frozen(number, epoch, next(items)) for number in numbers]

    def _frozen(self, number: int, epoch: int, item: Tensor | Failure) -> Tensor | Failure:
        """Encode and keep what has been decoded, in the thread that trains: the device is its alone."""
        if self.frozen is None or isinstance(item, Failure) or item.dtype != torch.uint8:
            return item
        maps = self.frozen.encode(item)
        lost_ticks = self.lost_ticks.get(self.windows[number].cache_id, set())
        self.frozen.save(self._key(number, epoch), maps, lost_ticks)
        return maps

    def _key(self, number: int, epoch: int) -> str:
        assert self.frozen is not None
        window = self.windows[number]
        return self.frozen.entry(
            self.digests[window.cache_id],
            window=(window.first, window.count),
            sample=f"{window.cache_id} {window.first}",
            draw=epoch % self.draws,
        )

    def _read(self, number: int, epoch: int) -> Tensor | Failure:
        window = self.windows[number]
        path, lost_ticks = self.files[window.cache_id], set[int]()
        found = None if self.frozen is None else self.frozen.load(self._key(number, epoch))
        if found is not None:
            self._require_unchanged(window.cache_id)
            self._note_lost(window.cache_id, found[1])
            return found[0]
        draw = epoch if self.frozen is None else epoch % self.draws
        try:
            clips, _ = read_clips(
                path,
                self.plan,
                augment=self.augment,
                generator=sample_generator(self.seed, draw, f"{window.cache_id} {window.first}"),
                first=window.first,
                count=window.count,
                lost_ticks=lost_ticks,
            )
        except EtadError as error:
            return Failure(window.cache_id, path, str(error))
        self._require_unchanged(window.cache_id)
        self._note_lost(window.cache_id, lost_ticks)
        return torch.from_numpy(clips)

    def _require_unchanged(self, id: str) -> None:
        path = self.files[id]
        if _content(file_stamp(path)) != _content(self.stamps[id]):
            raise EtadError(
                f"{path}: was replaced or written to while it was trained on. Put it back as it was, and the same "
                "command goes on from the last checkpoint; or train on it as it is now in another run folder."
            )

    def _note_lost(self, id: str, lost_ticks: set[int]) -> None:
        if lost_ticks:  # put in place whole: another thread may be reading what is there
            self.lost_ticks[id] = self.lost_ticks.get(id, set()) | lost_ticks


def _content(stamp: FileStamp | None) -> tuple[int, int] | None:
    """What of a stamp tells of the content: a file that is linked or moved is the same."""
    return None if stamp is None else (stamp.bytes, stamp.modified_ns)

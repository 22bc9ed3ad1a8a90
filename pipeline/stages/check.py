"""`etad check`: annotations x videos x cache x config, before hours are spent on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...data.annotations import Annotations, Video, match_ids, subset_aliases
from ...data.cache.cache import FeatureCache, parts_folder
from ...data.durations import CUT, OUTSIDE, clean, duration_conflict
from ...data.errors import EtadError, counted, listing
from ...data.files.json_file import describe_repeats
from ...data.progress import progress_bar
from ...data.video.video import probe
from ...detect.model.build import check_channels
from ...detect.windows import make_windows
from ...extract.encoders.encoder import encoder_spec
from ...extract.weights.packaged import packaged_weights
from ..config import Config
from ..run_folder import RunFolder
from .detect import check_cache
from .extract import Sources, describe_missing, find_sources, load_encoders, load_further, weights_file
from .infer import require_windows
from .inputs import data_faults, read_quietly, used_subsets


@dataclass(frozen=True)
class Finding:
    """One thing to know before a run.

    Parameters
    ----------
    kind
        `refused`: a stage will not begin; `problem`: something will fail or be left out; `note`: what real files do,
        and what is done about it.
    where
        What it was found in; empty where `what` names that.
    advice
        Empty where `what` says what to do.
    """

    kind: str
    where: str
    what: str
    advice: str


def check(
    config: Config,
    run: RunFolder | None,
    *,
    probe_videos: bool = True,
    weights: Path | None = None,
    scores: Path | None = None,
) -> list[Finding]:
    """List what is wrong or worth knowing; never stops at the first.

    Parameters
    ----------
    probe_videos
        Open every video file.
    weights, scores
        Encoder weights and video-level class scores that the stages will be given.
    """
    findings: list[Finding] = []
    annotations = None
    there: Collection[str] | None = None
    try:
        annotations = read_quietly(config)
        findings += _of_annotations(annotations, config)
    except EtadError as error:
        findings.append(Finding("refused", "", str(error), ""))
    if config.data.videos is not None:
        try:
            sources = find_sources(config, annotations, None)
            there = sources.files
            findings += _of_videos(config, annotations, sources, probe_videos=probe_videos)
        except EtadError as error:
            findings.append(Finding("refused", "", str(error), "name another folder with --videos"))
    if run is not None and (run.cache.exists() or parts_folder(run.cache).is_dir()):
        known = {(finding.where, finding.what) for finding in findings}
        findings += [found for found in _of_cache(config, run, annotations) if (found.where, found.what) not in known]
        findings += _of_weights(config, run, weights) if weights is not None else []
    else:
        findings += _of_weights(config, run, weights)
    if annotations is not None:
        findings += [
            Finding("refused", "", str(fault), "")
            for fault in data_faults(config, annotations, scores=scores, there=there)
        ]
    return list(dict.fromkeys(findings))  # what the video and its features both show is one thing


def _of_weights(config: Config, run: RunFolder | None, named: Path | None) -> Iterator[Finding]:
    """Whether the encoders' weights are there and fit; that the first's will be needed, where none are named yet."""
    folder = run or RunFolder(Path())
    alone = config.model_copy(update={"encoder": config.encoder.model_copy(update={"also": ()})})
    try:
        if run is None and named is None and config.encoder.weights is None:
            found = packaged_weights(config.encoder.name)
        else:
            found = weights_file(config, folder, named)
        if found is not None:
            load_encoders(alone, folder, found)
        elif config.encoder.init == "weights":
            wanted = encoder_spec(config.encoder.name).weights_wanted()
            yield Finding("note", "encoder", wanted, "needed by `extract` only")
    except EtadError as error:
        yield Finding("refused", "", str(error), "")
    for further in config.encoder.also:
        try:
            load_further(config, further)
        except EtadError as error:
            yield Finding("refused", "", str(error), "")


def _of_annotations(annotations: Annotations, config: Config) -> Iterator[Finding]:
    where = str(annotations.source)
    if annotations.repeated:
        yield Finding("problem", where, describe_repeats(annotations.repeated), "keep one entry of each")
    for stray in annotations.strays(used_subsets(config)):
        kind, advice = ("problem", "correct it") if stray.is_mistake else ("note", "they are left out of this run")
        yield Finding(kind, where, str(stray), advice)
    unknown = [video.id for video in annotations.videos.values() if video.duration_seconds is None]
    if unknown:
        what = f"no duration stated for {counted(len(unknown), 'video')}"
        yield Finding("note", where, what, "the video files' own are taken")
    for video in annotations.videos.values():
        if video.duration_seconds is not None:
            yield from _of_segments(video, video.duration_seconds)
            for repair in clean(video, video.duration_seconds)[1]:
                if not repair.is_problem:
                    yield Finding("note", f"{where}: {video.id}", repair.detail, repair.kind)


def _of_videos(
    config: Config, annotations: Annotations | None, sources: Sources, *, probe_videos: bool
) -> Iterator[Finding]:
    folder = str(config.data.videos)
    if sources.missing:
        yield Finding("problem", folder, describe_missing(sources), "get the files, or list the ids in data.blocked")
    if sources.passed_over:
        yield Finding("note", folder, sources.passed_over, "they are not extracted")
    if annotations is not None:
        unexpected = sorted(set(sources.files) - set(annotations.videos))
        if unexpected:
            what = f"{counted(len(unexpected), 'video')} without annotations: {listing(unexpected)}"
            yield Finding("note", folder, what, "they are extracted, not trained on")
    if not probe_videos:
        return
    for id, path in progress_bar("check", sources.files.items(), unit="video"):
        try:
            seconds = probe(path).duration_seconds
        except EtadError as error:
            yield Finding("problem", path.name, str(error), "get another copy, or list the id in data.blocked")
            continue
        annotated = annotations.videos.get(id) if annotations else None
        if annotated is not None:
            yield from _of_measured(annotated, seconds)


def _of_cache(config: Config, run: RunFolder, annotations: Annotations | None) -> Iterator[Finding]:
    try:
        cache = FeatureCache(run.cache)
        check_cache(cache, config)
        check_channels(config.detect, cache.channels, cache.path)
    except EtadError as error:
        yield Finding("refused", "", str(error), "")
        return
    for note in cache.reading_notes():
        yield Finding(
            "note", str(run.cache), note, "run `extract` again for older rules; get another copy for the rest"
        )
    if annotations is None:
        return
    wanted = [
        video.id
        for subset in (config.data.train_subset, config.data.test_subset)
        for video in annotations.videos.values()
        if video.subset.lower() in subset_aliases(subset)
    ]
    try:
        matches = match_ids(wanted, cache.ids, where=str(run.cache))
        if matches:
            _require_windows(config, annotations, cache)
    except EtadError as error:
        yield Finding("refused", "", str(error), "")
        return
    for id in wanted:
        if id in matches:
            yield from _of_measured(annotations.videos[id], cache.durations[matches[id]])
    lost = sorted(set(wanted) - set(matches))
    if lost:
        what = f"{counted(len(lost), 'annotated video')} not in the cache: {listing(lost)}"
        yield Finding("problem", str(run.cache), what, "run `extract` again; it does what is missing")


def _require_windows(config: Config, annotations: Annotations, cache: FeatureCache) -> None:
    """Refuse features of which no window is left to learn from."""
    try:
        learned, classes = annotations.subset(config.data.train_subset), annotations.labels
    except EtadError:
        return  # said of the annotations already
    windows, report = make_windows(learned, cache, settings=config.detect, classes=classes, training=True)
    require_windows(windows, report, config.data.train_subset)


def _of_measured(video: Video, seconds: float) -> Iterator[Finding]:
    """Compare a video's annotations with its measured duration."""
    where = f"video {video.id}"
    conflict = duration_conflict(video, seconds)
    if conflict is not None:
        what = f"lasts {seconds:.2f} s, the annotations say {conflict.annotated_seconds:.2f} s"
        yield Finding("note", where, what, "the measured duration counts; is it another cut of the video?")
    yield from _of_segments(video, seconds)


def _of_segments(video: Video, seconds: float) -> Iterator[Finding]:
    """Find the segments that do not lie in a video of this duration."""
    for kind in (OUTSIDE, CUT):
        found = [repair.detail for repair in clean(video, seconds)[1] if repair.kind == kind]
        if found:
            what = f"{counted(len(found), 'segment')} {kind}: {listing(found)}"
            advice = "correct them or the duration, or list the id in data.blocked; `evaluate` counts them as annotated"
            yield Finding("problem", f"video {video.id}", what, advice)

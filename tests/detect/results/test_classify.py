from pathlib import Path

import numpy as np
import pytest

from etad.data.checkpoint import save_checkpoint
from etad.data.errors import EtadError
from etad.detect.results.classify import VideoClassifier, load_classifier, pool, save_classifier, train_classifier

LABELS = ("jump", "run", "swim", "never seen")


def videos(seed: int, count: int, *, num_classes: int = 3) -> tuple[list[np.ndarray], list[list[int]]]:
    """Features that show the class of each video for a part of its time, amid noise."""
    rng = np.random.default_rng(seed)
    features, classes = [], []
    for number in range(count):
        video = rng.normal(size=(int(rng.integers(5, 30)), 8)).astype(np.float32)
        own = number % num_classes
        video[: len(video) // 2, own] += 3
        features.append(video)
        classes.append([own, own])
    return features, classes


def trained(seed: int = 0, count: int = 30, **options) -> VideoClassifier:
    features, classes = videos(seed, count, **options)
    return train_classifier(np.stack([pool(video) for video in features]), classes, labels=LABELS)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_it_recognises_the_class_of_new_videos(num_classes: int) -> None:
    classifier = trained(num_classes=num_classes)
    features, classes = videos(1, 30, num_classes=num_classes)
    found = [int(classifier.scores(video).argmax()) for video in features]
    assert np.mean([number == own[0] for number, own in zip(found, classes)]) > 0.9


def test_scores_are_probabilities_and_a_class_never_shown_has_none() -> None:
    scores = trained().scores(videos(1, 1)[0][0])
    assert scores.shape == (4,)
    assert scores.sum() == pytest.approx(1.0)
    assert scores[3] == 0.0
    assert (scores[:3] > 0).all()


def test_a_video_of_two_classes_counts_half_for_each() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(40, 4)).astype(np.float32)
    both = train_classifier(pooled, [[0, 1]] * 40, labels=LABELS[:2])
    scores = both.scores(np.zeros((3, 2)))
    assert scores == pytest.approx([0.5, 0.5], abs=1e-3)


def test_videos_without_actions_change_nothing() -> None:
    features, classes = videos(0, 30)
    pooled = np.stack([pool(video) for video in features])
    with_negatives = train_classifier(np.concatenate([pooled, pooled + 9]), [*classes, *[[]] * 30], labels=LABELS)
    assert np.array_equal(with_negatives.weights, trained().weights)


def test_one_class_alone_is_certain() -> None:
    classifier = train_classifier(np.zeros((3, 8), dtype=np.float32), [[1]] * 3, labels=LABELS)
    assert classifier.scores(np.zeros((5, 4))).tolist() == [0.0, 1.0, 0.0, 0.0]


def test_a_few_videos_are_enough() -> None:
    classifier = trained(count=3)
    assert classifier.scores(videos(0, 3)[0][1]).argmax() == 1


def test_the_same_videos_give_the_same_classifier() -> None:
    first, second = trained(), trained()
    assert first.weights.tobytes() == second.weights.tobytes()


def test_a_saved_classifier_comes_back(tmp_path: Path) -> None:
    classifier = trained()
    loaded = load_classifier(save_classifier(tmp_path / "classifier.pt", classifier))
    video = videos(1, 1)[0][0]
    assert loaded.labels == LABELS
    assert loaded.scores(video).tolist() == classifier.scores(video).tolist()


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "detector.pt", {"format": "something else"})
    with pytest.raises(EtadError, match=r"detector\.pt: this is no video classifier"):
        load_classifier(path)


def test_features_of_other_channels_are_refused() -> None:
    with pytest.raises(EtadError, match="trained on features of 8 channels, these have 5"):
        trained().scores(np.zeros((4, 5)))


def test_training_without_any_action_is_refused() -> None:
    with pytest.raises(EtadError, match="none of the training videos shows an action"):
        train_classifier(np.zeros((2, 4), dtype=np.float32), [[], []], labels=LABELS)

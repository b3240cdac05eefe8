"""A small reader study and readers who answer by rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medsynth_ray.contracts._runs import toy_pool
from medsynth_ray.images import ImageSet
from medsynth_ray.report.readers.study import Case, Key, Questions, plan
from medsynth_ray.testing import toy_images

SECRET = bytes(range(32))

Judge = Callable[[int, Case, bool], dict[str, str]]
"""(reader, image, whether it is a repeat) -> question -> code."""


def images(counts: tuple[int, ...] = (12, 8)) -> tuple[ImageSet, ImageSet]:
    """Real and synthetic images of two classes."""
    return toy_images(counts, prefix="val"), toy_pool(counts).images


def study(
    counts: tuple[int, ...] = (12, 8),
    *,
    readers: int = 3,
    repeat_share: float = 0.1,
    words: dict[str, Any] | None = None,
) -> Key:
    """The key of a study of all `images`."""
    real, synthetic = images(counts)
    return plan(
        real, synthetic, sweep="toy-00000000", arm="gaussian", num_readers=readers, repeat_share=repeat_share,
        secret=SECRET, questions=Questions.model_validate(words or {}),
    )  # fmt: skip


def perfect(reader: int, case: Case, repeat: bool) -> dict[str, str]:
    """Knows everything, and is sure."""
    return {
        "diagnosis": f"class-{case.label}", "diagnosis_confidence": "5", "looks_real": "yes", "plausible": "yes",
        "malformed": "no", "disease": "yes", "origin": "synthetic" if case.synthetic else "real",
        "origin_confidence": "5",
    }  # fmt: skip


def answers(key: Key, reader: int, judge: Judge = perfect) -> dict[str, Any]:
    """The file that a reader sends back."""
    packet = key.packets[reader - 1]
    return {
        "format": "medsynth-readers-answers/1", "packet": packet.id, "reader": reader, "finished": True,
        "answers": {s.id: judge(reader, key.cases[s.case], s.repeat_of is not None) for s in packet.showings},
    }  # fmt: skip


def label_studio(key: Key, reader: int, judge: Judge = perfect, *, by_words: bool = False) -> list[dict[str, Any]]:
    """The same as a Label Studio export; by_words: choices named by their words, as without aliases."""
    packet, codes = key.packets[reader - 1], key.questions.codes(key.class_names)
    tasks = []
    for showing in packet.showings:
        said = judge(reader, key.cases[showing.case], showing.repeat_of is not None)
        result = [
            {"from_name": name, "to_name": "image", "type": "rating", "value": {"rating": int(code)}}
            if name.endswith("_confidence")
            else {
                "from_name": name, "to_name": "image", "type": "choices",
                "value": {"choices": [codes[name][code] if by_words else code]},
            }
            for name, code in said.items()
        ]  # fmt: skip
        skipped = {"was_cancelled": True, "result": [{"from_name": "origin", "value": {"choices": ["real"]}}]}
        data = {"item": showing.id, "packet": packet.id, "image": "data:image/png;base64,"}
        tasks.append({"id": len(tasks), "data": data, "annotations": [skipped, {"completed_by": 1, "result": result}]})
    return tasks

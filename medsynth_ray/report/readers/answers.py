"""What readers answered: our own files and Label Studio's JSON exports, checked against the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medsynth_ray.errors import ConfigError
from medsynth_ray.report.readers.study import Key, Packet

FORMAT = "medsynth-readers-answers/1"

Answers = dict[str, dict[str, str]]
"""Id of a showing -> question -> code of the answer."""


def gather(key: Key, files: Sequence[tuple[str, Any]]) -> dict[int, Answers]:
    """The answers of each reader who gave any, from (name, JSON) of files, in any number for each reader.

    Raises:
        ConfigError: a file is of another kind or about another study, holds an answer that was not on offer, or
            contradicts another one.
    """
    codes = key.questions.codes(key.class_names)
    packets = {packet.id: packet for packet in key.packets}
    found: dict[int, Answers] = {}
    said_by: dict[tuple[int, str, str], str] = {}
    for name, content in files:
        for packet_id, showing, question, value in _said(name, content):
            packet = _packet(packets, packet_id, name)
            code = _code(codes, question, value, name)
            _check_showing(packet, showing, name)
            own = found.setdefault(packet.reader, {}).setdefault(showing, {})
            place = (packet.reader, showing, question)
            if own.setdefault(question, code) != code:
                raise ConfigError(
                    f"reader {packet.reader}, image {showing}, {question}: {said_by[place]} says {own[question]!r}, "
                    f"{name} says {code!r}; give only the answers that count, usually the last file"
                )
            said_by.setdefault(place, name)
    return dict(sorted(found.items()))


def _said(name: str, content: Any) -> list[tuple[str, str, str, Any]]:
    """(packet id, showing, question, answer) of everything in one file."""
    if isinstance(content, list):
        return [row for task in content for row in _task(name, task)]
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(
            f"{name}: neither answers of a packet (format {FORMAT!r}) nor a Label Studio export in the format JSON"
        )
    answers = content.get("answers")
    if not isinstance(answers, dict) or not all(isinstance(said, dict) for said in answers.values()):
        raise ConfigError(f"{name}: `answers` must hold a mapping for each image, got {str(answers)[:60]!r}")
    return [
        (str(content.get("packet")), str(showing), str(question), value)
        for showing, said in answers.items()
        for question, value in said.items()
    ]


def _task(name: str, task: Any) -> list[tuple[str, str, str, Any]]:
    """One task of a Label Studio export; annotations that were skipped do not count."""
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict) or not {"item", "packet"} <= set(data) or "annotations" not in task:
        raise ConfigError(f"{name}: a task has no `data.item`, `data.packet` or `annotations`; export as JSON")
    rows = []
    for annotation in _mappings(name, "annotations", task["annotations"]):
        if annotation.get("was_cancelled"):
            continue
        for region in _mappings(name, "annotations.result", annotation.get("result", [])):
            (value,) = _mappings(name, "annotations.result.value", [region.get("value", {})])
            said = value.get("rating") if region.get("type") == "rating" else _first(value.get("choices"))
            rows.append((str(data["packet"]), str(data["item"]), str(region.get("from_name")), said))
    return rows


def _mappings(name: str, key: str, values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ConfigError(f"{name}: `{key}` must be a list of mappings, got {str(values)[:60]}; export as JSON")
    return values


def _first(choices: Any) -> Any:
    return choices[0] if isinstance(choices, list) and choices else choices


def _packet(packets: Mapping[str, Packet], packet_id: str, name: str) -> Packet:
    if packet_id not in packets:
        known = ", ".join(f"{packet.id} (reader {packet.reader})" for packet in packets.values())
        raise ConfigError(f"{name}: it answers packet {packet_id!r}, which is not of this key; it has {known}")
    return packets[packet_id]


def _check_showing(packet: Packet, showing: str, name: str) -> None:
    if all(showing != known.id for known in packet.showings):
        raise ConfigError(f"{name}: packet {packet.id} (reader {packet.reader}) shows no image {showing!r}")


def _code(codes: Mapping[str, Mapping[str, str]], question: str, value: Any, name: str) -> str:
    """The code of an answer, which may be given by its words, as Label Studio does without aliases."""
    if question not in codes:
        raise ConfigError(f"{name}: no question {question!r} in this study (questions: {', '.join(codes)})")
    by_words = {words: code for code, words in codes[question].items()}
    code = str(value) if str(value) in codes[question] else by_words.get(str(value))
    if code is None:
        allowed = ", ".join(codes[question])
        raise ConfigError(f"{name}: {question} is answered by {str(value)[:60]!r} (allowed: {allowed})")
    return code

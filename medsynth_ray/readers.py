"""The reader study of a sweep: writes blinded packets of an arm's images, and scores what readers answered."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from medsynth_ray.errors import ConfigError
from medsynth_ray.images import concat
from medsynth_ray.protocols import UNKNOWN
from medsynth_ray.registry import explain
from medsynth_ray.report.readers import packet
from medsynth_ray.report.readers.answers import Answers, gather
from medsynth_ray.report.readers.results import FORMAT, Results
from medsynth_ray.report.readers.study import OTHER, Key, Questions, Showing, choose, plan
from medsynth_ray.stats import readers as stats

if TYPE_CHECKING:
    from medsynth_ray.results import SweepResult

Row = dict[str, Any]


def export(
    result: SweepResult,
    arm: str,
    folder: Path,
    *,
    per_class: int = 20,
    num_readers: int = 3,
    repeat_share: float = 0.1,
    seed: int = 0,
    questions: Questions | None = None,
    key_path: Path | None = None,
    secret: bytes | None = None,
) -> Row:
    """Write `reader-<n>.html` and `label-studio/` below the empty `folder`, and the key beside it (mode 0600).

    Args:
        result: of a sweep that has this arm.
        arm: arm or generator, as the report names it.
        folder: what is sent to readers. The real images in it are of val: the generator was never fitted on them.
        per_class: real and synthetic images of each class; as many as there are, where these are fewer.
        num_readers: packets, each with ids and an order of its own.
        repeat_share: share of the images that are shown twice.
        seed: which images are shown.
        questions: the words of the study.
        key_path: default `<folder>.key.json`; never inside the folder.
        secret: at least 16 bytes of which ids and orders are made; None: random.

    Raises:
        ConfigError: no such arm, a file is there already, the key would lie among the packets, real images may not be
            shown (`report.real_images: false`), or there are too few images.
    """
    if not result.config.report.real_images:
        raise ConfigError("report.real_images is false, and packets show real images; set it to true for a study")
    try:
        pool = result.pool(arm)
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None
    key_path = _free_places(folder, key_path)
    real, synthetic = choose(result.data.part("val"), pool.images, per_class=per_class, seed=seed)
    key = plan(
        real, synthetic, sweep=result.config.sweep_id, arm=arm, num_readers=num_readers, repeat_share=repeat_share,
        secret=secret or secrets.token_bytes(32), questions=questions or Questions(),
        fitted_on_unknown=UNKNOWN in pool.fitted_on,
    )  # fmt: skip
    write(key, concat([real, synthetic]).pixels, folder, key_path)
    shown = {name: int(n) for name, n in zip(real.class_names, synthetic.counts(), strict=True)}
    return {
        "folder": str(folder), "key": str(key_path), "readers": num_readers, "arm": arm, "of_each_kind": shown,
        "images": len(key.cases), "distractors": len(key.cases) - int(key.compared.sum()),
        "showings": len(key.packets[0].showings), "fitted_on_unknown": key.fitted_on_unknown,
        "left_out": [name for name, n in shown.items() if not n],
    }  # fmt: skip


def write(key: Key, pixels: np.ndarray, folder: Path, key_path: Path) -> None:
    """Write packets and key; `pixels` uint8 (N, H, W, C) are those of the key's cases. `folder` is new or empty.

    Packets come first, below a temporary folder beside `folder`: what fails leaves neither, and may be tried again.

    Raises:
        ConfigError: the key's file is there already.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        packets = Path(temporary) / "packets"
        _write_packets(key, pixels, packets)
        _write_key(key, key_path)
        try:
            packets.replace(folder)
        except OSError:
            key_path.unlink()
            raise


def _write_key(key: Key, path: Path) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; name a new file by --key") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(key.model_dump_json(indent=1))


def _write_packets(key: Key, pixels: np.ndarray, folder: Path) -> None:
    pictures = [packet.data_uri(packet.png(image)) for image in pixels]
    project = folder / "label-studio"
    project.mkdir(parents=True, exist_ok=True)
    (project / "config.xml").write_text(packet.label_studio_config(key), encoding="utf-8")
    for one in key.packets:
        (folder / f"reader-{one.reader}.html").write_text(packet.page(key, one, pictures), encoding="utf-8")
        tasks = json.dumps(packet.label_studio_tasks(one, pictures))
        (project / f"reader-{one.reader}.json").write_text(tasks, encoding="utf-8")


def score(key_path: Path, answer_paths: Sequence[Path], *, margin: float = 0.1, seed: int = 0) -> Row:
    """The numbers of a study, as JSON: those of `stats.readers.summarise`, and whose images were read.

    Raises:
        ConfigError: a file cannot be read, is no key or no answers, or is about another study.
    """
    key = read_key(key_path)
    found = gather(key, [(str(path), _json(path)) for path in answer_paths])
    if not found:
        raise ConfigError(f"{', '.join(map(str, answer_paths))}: no answer in it")
    try:
        return scored(key, found, margin=margin, seed=seed)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def scored(key: Key, answers: dict[int, Answers], *, margin: float = 0.1, seed: int = 0) -> Row:
    """The same of answers in memory: reader -> showing -> question -> code.

    Raises:
        ValueError: `margin` lies outside (0, 0.5).
    """
    compared = key.compared
    readings = _readings(key, answers, compared)
    summary = stats.summarise(readings, key.class_names, margin=margin, seed=seed)
    shown = {packet.reader: packet.showings for packet in key.packets}
    num_questions = len(key.questions.codes(key.class_names))
    for row, (reader, said) in zip(summary["readers"], answers.items(), strict=True):
        answered = sum(len(one) == num_questions for one in said.values())
        row |= {"reader": reader, "answered": answered, "shown": len(shown[reader])}
    kinds = np.bincount(readings.synthetic, minlength=2).tolist()
    return {
        "format": FORMAT, "sweep": key.sweep, "arm": key.arm, "class_names": list(key.class_names),
        "real_images_of": key.real_images_of, "fitted_on_unknown": key.fitted_on_unknown,
        "num_real": kinds[0], "num_synthetic": kinds[1], "num_distractors": int((~compared).sum()),
        "num_packets": len(key.packets), **summary,
        "questions": _question_rows(key, answers), "pool_images": _pool_images(key, readings),
    }  # fmt: skip


def read_key(path: Path) -> Key:
    """The key of a study.

    Raises:
        ConfigError: it cannot be read, or is not what `export` writes.
    """
    try:
        return Key.model_validate(_json(path))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, str(path), Key))) from None


def read_results(path: Path, sweep: str | None = None) -> Row:
    """What `score` found, from the file that it was written to; sweep: id of the one that it must be of, None: any.

    Raises:
        ConfigError: it cannot be read, is none of these, is incomplete, or is of another sweep.
    """
    found = _json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigError(f"{path} is not what `medsynth readers score -o` writes")
    try:
        Results.model_validate(found)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, str(path), Results))) from None
    if sweep not in (None, found["sweep"]):
        raise ConfigError(f"{path} is a study of sweep {found['sweep']}, not of {sweep}")
    return found


def _free_places(folder: Path, key_path: Path | None) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not an empty folder; name a new one")
    key_path = key_path or folder.resolve().with_name(folder.resolve().name + ".key.json")
    if folder.resolve() in (key_path.resolve(), *key_path.resolve().parents):
        raise ConfigError(f"the key {key_path} would lie among the packets in {folder} and unblind whoever gets them")
    if key_path.exists():
        raise ConfigError(f"{key_path} is there already; name a new file by --key")
    key_path.parent.mkdir(parents=True, exist_ok=True)
    return key_path


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None


def _readings(key: Key, answers: dict[int, Answers], compared: np.ndarray) -> stats.Readings:
    """Of the cases that are `compared`; the others count where a reader saw them twice, for agreement with oneself."""
    packets = {packet.reader: packet for packet in key.packets}
    shape = (len(answers), len(key.cases))
    scores, diagnoses, again = np.full(shape, np.nan), np.full(shape, stats.UNREAD, dtype=np.int64), []
    for row, (reader, said) in enumerate(answers.items()):
        at = {showing.id: showing.case for showing in packets[reader].showings}
        for showing in packets[reader].showings:
            if showing.repeat_of is None:
                scores[row, at[showing.id]] = _signed(said.get(showing.id, {}))
                diagnoses[row, at[showing.id]] = _diagnosis(said.get(showing.id, {}))
        again.append(_again(packets[reader].showings, said))
    synthetic = np.array([case.synthetic for case in key.cases], dtype=bool)
    labels = np.array([case.label for case in key.cases], dtype=np.int64)
    kept = (synthetic[compared], labels[compared], scores[:, compared], diagnoses[:, compared])
    return stats.Readings(*kept, tuple(again))


def _again(showings: Sequence[Showing], said: Answers) -> np.ndarray:
    rows = []
    for showing in showings:
        if showing.repeat_of is not None:
            both = said.get(showing.repeat_of, {}), said.get(showing.id, {})
            rows.append([*(_origin(one) for one in both), *(_diagnosis(one) for one in both)])
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _signed(said: dict[str, str]) -> float:
    if "origin" not in said or "origin_confidence" not in said:
        return float("nan")
    return int(said["origin_confidence"]) * (1.0 if said["origin"] == "synthetic" else -1.0)


def _origin(said: dict[str, str]) -> int:
    return int(said["origin"] == "synthetic") if "origin" in said else stats.UNREAD


def _diagnosis(said: dict[str, str]) -> int:
    code = said.get("diagnosis")
    if code is None:
        return stats.UNREAD
    return stats.OTHER if code == OTHER else int(code.removeprefix("class-"))


def _question_rows(key: Key, answers: dict[int, Answers]) -> list[Row]:
    """How often each yes-or-no question was answered how, by kind of image; repeats do not count."""
    compared = key.compared
    first = {
        s.id: key.cases[s.case]
        for packet in key.packets
        for s in packet.showings
        if s.repeat_of is None and compared[s.case]
    }
    rows = []
    for name, text in key.questions.yes_no.items():
        counts = {arm: dict.fromkeys(("yes", "no", "uncertain"), 0) for arm in ("real", "synthetic")}
        for said in answers.values():
            for showing, one in said.items():
                if showing in first and name in one:
                    counts["synthetic" if first[showing].synthetic else "real"][one[name]] += 1
        rows.append({"name": name, "text": text, **counts})
    return rows


def _pool_images(key: Key, readings: stats.Readings) -> list[Row]:
    """Each synthetic image that was shown: how many diagnosed it, and how many of them as its class."""
    num_read = (readings.diagnoses != stats.UNREAD).sum(axis=0).tolist()
    num_right = (readings.diagnoses == readings.labels).sum(axis=0).tolist()
    compared = [case for case, one in zip(key.cases, key.compared, strict=True) if one]
    return [
        {"id": case.image_id, "digest": case.digest, "class": key.class_names[case.label], "read": n, "right": right}
        for case, n, right in zip(compared, num_read, num_right, strict=True)
        if case.synthetic
    ]

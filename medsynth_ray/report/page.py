"""The report: one HTML file that needs no network and no script, the answer in its first line."""

from __future__ import annotations

import base64
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from medsynth_ray.report import data_tables, evidence, evidence_figures, figures, pool_figures, published, tables
from medsynth_ray.report.readers.section import readers_section
from medsynth_ray.report.view import REAL, CheckpointPreview, NearCopy, ReportView

MAX_PREVIEW_PX = 128
MAX_COPY_PX = 224
MAX_PREVIEWS = 6
MAX_NEAR_COPIES = 12
MAX_CHECKPOINTS = 6
MAX_CHECKPOINT_IMAGES = 2
MAX_THUMBNAIL_PX = 64
MAX_FLIP_PX = 96
MAX_THUMBNAILS = 8
"""Of one finding."""

_HERE = Path(__file__).parent

MEANING = {
    "helps": "The gain is larger than other patients and other training runs would explain, against every control.",
    "harms": "Training with these synthetic images is worse than training on the real ones alone.",
    "no_evidence": "Against some control it did not win, and a gain as large as the stated effect is excluded there.",
    "cannot_tell": "Neither a gain nor its absence is shown: the stated effect stays possible.",
    "as_published": "A study as most are published: what it would report, and why that is no evidence.",
    "no_candidate": "There is nothing to compare: the sentence says why.",
}


def render(view: ReportView) -> str:
    """Write the page. It is a pure function of the view: same view, same bytes."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "fmt": tables.fmt,
        "duration": tables.duration,
        "settings": tables.settings,
        "words": tables.words,
        "floor_text": tables.floor_text,
        "detail_text": tables.detail_text,
    }
    environment.globals |= {"interval": tables.interval, "REAL": REAL}
    return environment.get_template("page.html.j2").render(
        view=view,
        css=Markup((_HERE / "page.css").read_text()),
        headline=_lead(headline(view)),
        word=(view.verdict or {}).get("word", "unfinished"),
        meaning=MEANING.get((view.verdict or {}).get("word", ""), ""),
        **_charts(view),
        **_tables(view),
        **_images(view),
        readers=readers_section(view.readers) if view.readers else "",
    )


def headline(view: ReportView) -> str:
    """The answer in one sentence."""
    if view.verdict is not None:
        return str(view.verdict["sentence"])
    reason = {"budget reached": "the budget was reached first", "some trials failed": "some trials failed"}
    return f"No verdict yet: {reason.get(view.status, 'the sweep is not finished')}. Below is what is known so far."


def _lead(sentence: str) -> tuple[str, str]:
    """The sentence in two: up to its colon, which is shown large, and the rest."""
    lead, colon, rest = sentence.partition(": ")
    return lead, colon + rest


def png_uri(image: np.ndarray, max_px: int) -> str:
    """uint8 (H, W, 1 or 3) as a PNG data URI, made smaller if a side is longer than `max_px`."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    if max(picture.size) > max_px:
        picture.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _charts(view: ReportView) -> dict[str, Any]:
    drawn = {name: getattr(figures, name)(view) for name in ("forest", "scores", "gain")}
    drawn |= {name: getattr(pool_figures, name)(view) for name in ("nearness", "quality", "curve", "halving")}
    drawn |= {
        name: getattr(evidence_figures, name)(view) for name in ("reliability", "subgroup_forest", "learning_curve")
    }
    return {
        **{name: Markup(svg) for name, svg in drawn.items()},
        "legend": figures.legend(view),
        "curve_legend": pool_figures.curve_legend(view),
        "curve_floor": pool_figures.curve_floor(view),
        "before_color": evidence_figures.BEFORE,
        "after_color": evidence_figures.AFTER,
    }


def _tables(view: ReportView) -> dict[str, Any]:
    names = tables.measured_names(view)
    return {
        "evidence": tables.arm_rows(view, "confirm"),
        "selection": tables.arm_rows(view, "mix"),
        "classes": tables.class_rows(view),
        "harmed": tables.harmed_classes(view),
        "measured_names": names,
        "measured_by_class": tables.measured_by_class(view),
        "generators": [
            {**row, "name": tables.display_name(row), "measured": {m["name"]: m for m in row["measured"]}}
            for row in tables.candidates(view)
        ],
        "privacy": tables.privacy_rows(view),
        "unjudged": tables.unjudged(view),
        "main_name": tables.main_name(view),
        "separations": tables.separations(view),
        "run_rows": tables.run_rows(view),
        "published": published.published_tables(view),
        "caveats": data_tables.caveats(view),
        "real_share_line": data_tables.share_line(view),
        "class_colors": data_tables.class_colors(view),
        "counts": data_tables.count_rows(view),
        "findings": data_tables.finding_groups(view),
        "detail": evidence.detail(view),
        "curve_split": evidence_figures.split_of(view),
        "curve_metric": evidence_figures.metric_of(view),
        "metric_words": partial(tables.metric_words, view),
        "level": tables.level_text(view),
        "family": tables.family_line(view),
    }


def _images(view: ReportView) -> dict[str, Any]:
    columns = list(dict.fromkeys(p.generator for p in view.previews))
    cells = {
        (p.class_name, p.generator): [png_uri(image, MAX_PREVIEW_PX) for image in p.images[:MAX_PREVIEWS]]
        for p in view.previews
    }
    return {
        "columns": sorted(columns, key=lambda name: name != REAL),
        "rows": [name for name in view.class_names if any(key[0] == name for key in cells)],
        "cells": cells,
        "checkpoints": _checkpoints(view),
        "thumbnails": partial(_thumbnails, view),
        "flip_pictures": {name: png_uri(view.flip_images[name], MAX_FLIP_PX) for name in evidence.shown_flips(view)},
        "copies": [_copy(pair) for pair in sorted(view.near_copies, key=lambda c: c.score)[:MAX_NEAR_COPIES]],
    }


def _copy(pair: NearCopy) -> dict[str, Any]:
    return {
        "pair": pair,
        "synthetic": png_uri(pair.synthetic, MAX_COPY_PX),
        "real": None if pair.real is None else png_uri(pair.real, MAX_COPY_PX),
    }


def _checkpoints(view: ReportView) -> list[dict[str, Any]]:
    """A grid for each generator: classes down, checkpoints across (the first, the last and some between)."""
    grids = []
    for generator in dict.fromkeys(p.generator for p in view.checkpoint_previews):
        own = [p for p in view.checkpoint_previews if p.generator == generator]
        every = sorted({p.images_seen for p in own})
        places = np.unique(np.linspace(0, len(every) - 1, min(len(every), MAX_CHECKPOINTS)).round().astype(int))
        seen = [every[place] for place in places]
        found = {(p.class_name, p.images_seen): p for p in own}
        rows = [
            (name, [_strip(found.get((name, step))) for step in seen])
            for name in view.class_names
            if any((name, step) in found for step in seen)
        ]
        grids.append({"generator": generator, "seen": seen, "rows": rows})
    return grids


def _strip(preview: CheckpointPreview | None) -> list[str]:
    images = () if preview is None else preview.images[:MAX_CHECKPOINT_IMAGES]
    return [png_uri(image, MAX_PREVIEW_PX) for image in images]


def _thumbnails(view: ReportView, ids: list[str]) -> list[tuple[str, str]]:
    """(id, picture) of the first images of a finding that can be shown."""
    shown = [name for name in ids if name in view.thumbnails][:MAX_THUMBNAILS]
    return [(name, png_uri(view.thumbnails[name], MAX_THUMBNAIL_PX)) for name in shown]

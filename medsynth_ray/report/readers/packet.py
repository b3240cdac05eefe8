"""Packets as files: a self-contained page for each reader, and the same as a Label Studio project.

Real and synthetic images go through one function, from pixels to PNG: what a file holds beside its pixels is the same
for both. What their pixels hold (traces of an earlier compression, say) is theirs.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from medsynth_ray.report.readers.study import Key, Packet

_HERE = Path(__file__).parent


def png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 1 or 3) as a PNG without metadata, the encoder's settings fixed."""
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=9, optimize=False)
    return buffer.getvalue()


def data_uri(file: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(file).decode()


def page(key: Key, packet: Packet, pictures: list[str]) -> str:
    """The page of one reader, which asks no network and runs no script but its own; pictures: data URI of each case."""
    words = key.questions
    shown = {
        "id": packet.id, "reader": packet.reader,
        "items": [{"id": s.id, "picture": pictures[s.case]} for s in packet.showings],
        "words": {name: getattr(words, name) for name in ("image", "missing", "finished", "not_kept", "download")},
    }  # fmt: skip
    css, script = ((_HERE / f"packet.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    questions = [(name, words.text(name), codes) for name, codes in words.codes(key.class_names).items()]
    return environment.get_template("packet.html.j2").render(
        words=words, num_items=len(packet.showings), questions=questions, packet=packet,
        css=Markup(css), css_hash=_csp_hash(css), script=Markup(script), script_hash=_csp_hash(script),
        data=Markup(json.dumps(shown, ensure_ascii=True).replace("<", "\\u003c")),
    )  # fmt: skip


def label_studio_tasks(packet: Packet, pictures: list[str]) -> list[dict[str, Any]]:
    """tasks.json of one reader, to import into a project of its own."""
    return [{"data": {"item": s.id, "packet": packet.id, "image": pictures[s.case]}} for s in packet.showings]


def label_studio_config(key: Key) -> str:
    """config.xml: the labelling interface, the same for every reader."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image", zoom="true")
    for name, codes in key.questions.codes(key.class_names).items():
        ElementTree.SubElement(view, "Header", value=key.questions.text(name), size="5")
        common = {"name": name, "toName": "image", "required": "true"}
        if name.endswith("_confidence"):
            ElementTree.SubElement(view, "Rating", {**common, "maxRating": "5"})
            continue
        choices = ElementTree.SubElement(view, "Choices", {**common, "choice": "single-radio", "showInline": "true"})
        for code, words in codes.items():
            ElementTree.SubElement(choices, "Choice", value=words, alias=code)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

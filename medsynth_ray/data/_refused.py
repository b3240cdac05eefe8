"""Why an image cannot be used."""

from __future__ import annotations

Remarks = list[tuple[str, str]]
"""(kind, detail) of what was converted on the way."""


class Refused(Exception):
    """The image cannot be used. kind: short, the same for all such images; detail: about this one."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail

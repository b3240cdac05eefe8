"""Weights that are elsewhere: which addresses are taken, what of them may be shown, and how they are opened."""

from __future__ import annotations

import os
import re

HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?:(?P<file>[\w./-]+)")
TRUSTED = ("https", "s3", "gs", "gcs", "az", "abfs", "abfss", "file")
"""Schemes that are taken without a sha256."""


def check_uri(uri: str, *, pinned: bool) -> None:
    """Refuse what is no plain URL, or could be altered on its way; pinned: its sha256 is known.

    Raises:
        ValueError: it is refused; names no more of it than the scheme, for it may hold a token.
    """
    scheme, found, _ = uri.partition("://")
    scheme = scheme.lower()
    if "::" in uri or not found or not scheme.isalnum():
        raise ValueError("a uri is one URL, scheme://host/file; chains (::) are not taken")
    if scheme == "ftp":
        raise ValueError("ftp:// is not taken: use https://, or download the file and give its path")
    if scheme not in TRUSTED and not pinned:
        allowed = ", ".join(TRUSTED)
        raise ValueError(
            f"{scheme}:// can be altered on its way: use https://, or give the sha256 (without: {allowed})"
        )


def redacted(uri: str) -> str:
    """A URL without its user, query and fragment, which may be secrets."""
    scheme, _, rest = uri.partition("://")
    place = re.split(r"[?#]", rest)[0]
    host, slash, path = place.partition("/")
    user, at, host = host.rpartition("@")
    hidden = f"{rest[len(place)]}***" if len(rest) > len(place) else ""
    return f"{scheme}://{'***@' if user or at else ''}{host}{slash}{path}{hidden}"


def redacted_text(text: str, uri: str) -> str:
    """A message without the secrets of `uri`, however it quotes them, nor those of any other URL."""
    rest = uri.partition("://")[2]
    place = re.split(r"[?#]", rest)[0]
    for secret in (rest[len(place) + 1 :], place.partition("/")[0].rpartition("@")[0]):
        text = text.replace(secret, "***") if secret else text
    return re.sub(r"[a-z0-9+]+://[^\s'\"<>)]+", lambda url: redacted(url[0]), text, flags=re.IGNORECASE)


def online(uri: str) -> str:
    """The URL; refused where HF_HUB_OFFLINE says that this machine is offline and the URL needs a network.

    Raises:
        OSError: it is refused.
    """
    if _offline() and not uri.startswith(("file://", "local://", "memory://")):
        raise OSError("HF_HUB_OFFLINE is set: nothing is downloaded")
    return uri


def from_hub(hub: str) -> str:
    """Path of a hub's file, from the hub's own cache where it is there.

    Raises:
        ImportError: huggingface-hub is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError(f"{error}: pip install huggingface-hub") from error
    match = HUB.fullmatch(hub)
    assert match is not None
    path: str = hf_hub_download(match["repo"], match["file"], revision=match["revision"], local_files_only=_offline())
    return path


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")

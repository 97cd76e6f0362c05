"""Secrets by reference: the configuration names them, they are read when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from .errors import DeliveryDelayed

FOLDER = Path("/run/secrets")


class MissingSecret(DeliveryDelayed):
    """A reference leads nowhere now; whoever runs Penstock can still mend it."""


class Secrets:
    """Reads secrets anew each time, so that one that was replaced is used at once.

    Args:
        environment: of the process.
        folder: files that may be named without a path, as Docker mounts secrets.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path = FOLDER) -> None:
        self._environment = environment
        self._folder = folder

    def get(self, reference: str) -> SecretStr:
        """The secret of `env:NAME`, `file:PATH`, or `NAME`: a variable or a file of the folder.

        Raises:
            MissingSecret: there is none; the text names the reference only.
        """
        kind, colon, name = reference.partition(":")
        if not colon:
            found = self._environment.get(reference) or _read(self._folder / reference)
        elif kind == "env":
            found = self._environment.get(name)
        elif kind == "file":
            found = _read(Path(name))
        else:
            raise MissingSecret(f"a secret is env:NAME, file:PATH or NAME, not {kind}:")
        if not found or not found.strip():
            raise MissingSecret(f"no secret {reference}")
        return SecretStr(found.strip())


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None

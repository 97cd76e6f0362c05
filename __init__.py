"""Penstock: event-streaming observability and release gates for LLM and ML workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .producers.emitter import Emitter as Emitter
    from .producers.settings import EmitterSettings as EmitterSettings

__all__ = ["Emitter", "EmitterSettings"]

# Where the public names live; imported when first asked for, so that `import penstock` is cheap.
_HOMES = {"Emitter": ".producers.emitter", "EmitterSettings": ".producers.settings"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)

"""The `slos:` section of penstock.yaml: objectives, composites, presets and OpenSLO documents.

`slos: SloSection = ()` is all that the configuration needs; `objectives_of` gives what is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Tag

from .base import Model
from .convert import convert
from .objective import Composite, Objective
from .openslo import Document
from .presets import Preset


def _form(entry: Any) -> str:
    """Which form an entry has: by its one telling field, so that errors are about that form."""
    if not isinstance(entry, dict):
        forms = ((Objective, "objective"), (Composite, "composite"), (Preset, "preset"))
        return next((name for kind, name in forms if isinstance(entry, kind)), "openslo")
    if "apiVersion" in entry:
        return "openslo"
    if "preset" in entry:
        return "preset"
    return "composite" if "of" in entry else "objective"


Entry = Annotated[
    Annotated[Objective, Tag("objective")]
    | Annotated[Composite, Tag("composite")]
    | Annotated[Preset, Tag("preset")]
    | Annotated[Document, Tag("openslo")],
    Discriminator(_form),
]


def objectives_of(entries: Sequence[Model]) -> tuple[Objective | Composite, ...]:
    """What a section asks for, presets and documents written out.

    Raises:
        ValueError: an id is given twice, a composite names what is not there, or a document cannot
            be evaluated; the text says which and why.
    """
    found: list[Objective | Composite] = []
    documents: list[Model] = []
    for entry in entries:
        if isinstance(entry, Objective | Composite):
            found.append(entry)
        elif isinstance(entry, Preset):
            found += entry.expand()
        else:
            documents.append(entry)
    found += convert(documents)
    ids = [item.id for item in found]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise ValueError(f"ids must be unique: {', '.join(repeated)}")
    objectives = {item.id for item in found if isinstance(item, Objective)}
    for item in found:
        missing = sorted(set(item.of) - objectives) if isinstance(item, Composite) else []
        if missing:
            raise ValueError(f"{item.id}: there is no objective {', '.join(missing)}")
    return tuple(found)


def _expands(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    objectives_of(entries)
    return entries


SloSection = Annotated[tuple[Entry, ...], AfterValidator(_expands)]

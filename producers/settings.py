"""Settings of the emitter: built once, frozen, passed down."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..schemas.errors import InvalidConfiguration
from ..schemas.frames import MAX_FRAME_EVENTS
from ..schemas.kafka import parse_address
from ..schemas.redaction import Redaction
from .sampling import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitterSettings:
    """What is rarely changed.

    Attributes:
        flush_interval_s: how long an event waits in memory before its frame is built.
        max_frame_events: rows per frame, 1 to 5,000.
        max_buffered_events: bound of the memory buffer of each kind of event; beyond it the oldest
            events are dropped and declared as a gap.
        heartbeat_s: an idle emitter says this often that it is alive and where its clock is.
        spool_dir: folder for frames while the server is away; None takes a folder of the user
            below the system's temporary folder, another one for each server address.
        spool_max_bytes: bound of this process's spool; beyond it the oldest frames go and are
            declared as a gap.
        spool_sync: force spooled frames to the disk at once, so that they outlive a crash of the
            machine too. One fsync per flush while the server is away, on the emitter's thread.
        timeout_s: limit of every blocking network operation (on a thread of the emitter's own).
        close_timeout_s: how long `close` tries to deliver before it leaves the rest in the spool.
        retry_base_s: first waiting time after a failed delivery; doubled up to `retry_cap_s`.
        retry_cap_s: longest waiting time between attempts, unless the server asks for more.
        overdue_ms: a tracked request in flight for longer is announced.
        transport_timing: whether `transport_ms` is kept and `stamp` reads the clock; None takes
            PENSTOCK_TRANSPORT_TIMING, on by default.
        sampling: which rows keep features, categories and payload.
        redaction: what is redacted.
        error_types: exception class -> error_type, asked before the built-in rules.
        api_key: bearer key over HTTP; None takes PENSTOCK_API_KEY.
        hash_key: key of user and address hashes; None takes PENSTOCK_HASH_KEY.
    """

    flush_interval_s: float = 0.1
    max_frame_events: int = 2000
    max_buffered_events: int = 1_000_000
    heartbeat_s: float = 1.0
    spool_dir: str | os.PathLike[str] | None = None
    spool_max_bytes: int = 256 << 20
    spool_sync: bool = False
    timeout_s: float = 10.0
    close_timeout_s: float = 5.0
    retry_base_s: float = 0.2
    retry_cap_s: float = 30.0
    overdue_ms: float = 30_000.0
    transport_timing: bool | None = None
    sampling: Sampling = field(default_factory=Sampling)
    redaction: Redaction = field(default_factory=Redaction)
    error_types: Mapping[type[BaseException], str] = field(default_factory=dict)
    api_key: str | None = field(default=None, repr=False)
    hash_key: str | bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        positive = (self.flush_interval_s, self.heartbeat_s, self.timeout_s, self.spool_max_bytes)
        if min(positive) <= 0 or min(self.max_buffered_events, self.overdue_ms) <= 0:
            raise InvalidConfiguration("intervals, bounds and limits must be above zero")
        if not 1 <= self.max_frame_events <= MAX_FRAME_EVENTS:
            raise InvalidConfiguration(f"max_frame_events must be 1 to {MAX_FRAME_EVENTS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the process's environment says to emitters; the only place that reads it.

    Attributes:
        url: PENSTOCK_URL, which may hold a password.
        disabled: PENSTOCK_DISABLED is 1, true, yes or on.
        transport_timing: PENSTOCK_TRANSPORT_TIMING is not 0, false, no or off.
        api_key: PENSTOCK_API_KEY.
        hash_key: PENSTOCK_HASH_KEY.
    """

    url: str | None = field(default=None, repr=False)
    disabled: bool = False
    transport_timing: bool = True
    api_key: str | None = field(default=None, repr=False)
    hash_key: str | None = field(default=None, repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Environment:
        """Read the environment (that of the process, unless another is given)."""
        env = os.environ if environ is None else environ
        off = ("0", "false", "no", "off")
        return cls(
            url=env.get("PENSTOCK_URL") or None,
            disabled=env.get("PENSTOCK_DISABLED", "0").lower() not in ("", *off),
            transport_timing=env.get("PENSTOCK_TRANSPORT_TIMING", "1").lower() not in off,
            api_key=env.get("PENSTOCK_API_KEY") or None,
            hash_key=env.get("PENSTOCK_HASH_KEY") or None,
        )

    def complete(self, settings: EmitterSettings) -> EmitterSettings:
        """The settings, with the environment's word on what they leave open."""
        timing = settings.transport_timing
        return replace(
            settings,
            transport_timing=self.transport_timing if timing is None else timing,
            api_key=settings.api_key or self.api_key,
            hash_key=settings.hash_key or self.hash_key,
        )


def spool_folder(settings: EmitterSettings, address: str) -> Path:
    """The folder of spools: the configured one, else one of the user and the server address."""
    if settings.spool_dir is not None:
        return Path(settings.spool_dir)
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    server = hashlib.sha256(_without_password(address).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"penstock-spool-{user}" / server


def is_kafka(address: str) -> bool:
    """Whether events go straight to Kafka."""
    return address.lower().startswith("kafka://")


def _without_password(address: str) -> str:
    """The part of an address that tells servers apart."""
    if is_kafka(address):
        return f"kafka://{','.join(sorted(parse_address(address).bootstrap))}"
    scheme, mark, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def check_private(folder: Path) -> None:
    """Refuse a default spool folder that another user of the machine has made.

    Raises:
        PermissionError: the folder above `folder` exists and is not ours alone.
    """
    parent = folder.parent
    parent.mkdir(mode=0o700, exist_ok=True)
    state = parent.lstat()
    if hasattr(os, "getuid") and (state.st_uid != os.getuid() or state.st_mode & 0o022):
        raise PermissionError(f"{parent} belongs to somebody else or is writable by others")

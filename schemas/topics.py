"""The topics of Kafka: their names, their keys, and where a boot is at home.

A boot has one home partition for life, so that its duplicates always meet in one place. Client
libraries' own partitioners disagree with each other, and move keys when partitions are added; so the
partition is always named by us.
"""

from __future__ import annotations

import zlib

EVENTS = "penstock.events"
PANES = "penstock.panes"
ALERTS = "penstock.alerts"
DEAD_LETTERS = "penstock.dead_letters"

DEFAULT_PARTITIONS = 8  # of the events topic, where the broker cannot be asked
DEFAULT_SHARDS = 4  # partitions of the panes topic

# Headers of messages on the events topic; all optional, and absent on what foreign producers send.
HEADER_FORM = "penstock-form"  # b"frame" or b"json"; without it the first bytes tell
HEADER_BOOT = "penstock-boot"  # JSON: boot of the rows that state none, as an Idempotency-Key gives
HEADER_WORKER = "penstock-worker"  # JSON: worker of the rows that state none
# Hash of the body, with an Idempotency-Key only: its rows are identified, and another body is noticed.
HEADER_KEY = "penstock-key"
HEADER_HOME = "penstock-home"  # set by whoever forwarded the message: it is at home where it is


def home_of(boot_id: str, partitions: int) -> int:
    """Home partition of a boot: CRC-32 of its UTF-8 id, modulo the partitions.

    Args:
        boot_id: as in the frame header.
        partitions: how many partitions boots without a stated home are spread over. It is stored
            when the topic is made and does not grow with it.

    >>> home_of("boot-1", 8)
    2
    """
    return zlib.crc32(boot_id.encode()) % partitions

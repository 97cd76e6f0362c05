from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.producers.disk import SpoolBusy
from penstock.producers.gaps import merge_gaps
from penstock.producers.outbox import Outbox
from penstock.producers.spool import Spool, adopt, boot_folder
from penstock.schemas.frames import FrameHeader, encode_frame, read_header

BIG = 1 << 20


def step_frame(number: int, rows: int = 10, boot: str = "boot") -> bytes:
    header = FrameHeader(
        kind="step",
        worker_id="w",
        boot_id=boot,
        seq0=number * rows,
        count=rows,
        next_seq=(number + 1) * rows,
        clock_us=1000 + number,
    )
    # Incompressible enough that frames have a size.
    return encode_frame(
        header, [{"ts": 1, "attributes": {"x": os.urandom(20).hex()}} for _ in range(rows)]
    )


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(boot_folder(tmp_path, "boot"), BIG)
    yield made
    made.close()


def drain(spool: Spool) -> list[bytes]:
    out: list[bytes] = []
    while frames := spool.peek(10_000):
        out.extend(frames)
        spool.ack(len(frames))
    return out


def covered(frames: list[bytes]) -> tuple[list[int], set[int]]:
    """(numbers that arrive, numbers declared lost)."""
    headers = [read_header(frame) for frame in frames]
    seqs = [n for h in headers for n in range(h.seq0, h.seq0 + h.count)]
    return seqs, {n for h in headers for low, high in h.gaps for n in range(low, high)}


def test_first_in_first_out_and_nothing_stays_on_disk(spool: Spool) -> None:
    frames = [step_frame(i) for i in range(50)]
    for frame in frames:
        spool.append(frame)
    assert drain(spool) == frames
    assert spool.empty
    assert not list(spool.folder.glob("*.seg"))
    folder = spool.folder
    spool.close()
    assert not folder.exists()


def test_what_is_not_acknowledged_comes_again(spool: Spool) -> None:
    frames = [step_frame(i) for i in range(6)]
    for frame in frames:
        spool.append(frame)
    assert spool.peek(BIG, 4) == frames[:4]
    spool.ack(2)
    spool.fail()
    assert spool.peek(BIG) == frames[2:]


def test_a_new_owner_goes_on_where_the_dead_one_stopped(tmp_path: Path) -> None:
    frames = [step_frame(i) for i in range(6)]
    dead = Spool(boot_folder(tmp_path, "boot"), BIG)
    for frame in frames:
        dead.append(frame)
    dead.peek(BIG, 2)
    dead.ack(2)
    dead.abandon()  # what the end of the process does
    (heir,) = adopt(tmp_path, BIG)
    assert drain(heir) == frames[2:]
    heir.close()
    assert not heir.folder.exists()


def test_a_living_owner_is_left_alone(spool: Spool, tmp_path: Path) -> None:
    spool.append(step_frame(0))
    assert adopt(tmp_path, BIG) == []
    with pytest.raises(SpoolBusy):
        Spool(spool.folder, BIG)


@given(cut=st.integers(1, 10_000), rows=st.integers(1, 5))
def test_a_torn_tail_costs_only_the_torn_record(
    tmp_path_factory: pytest.TempPathFactory, cut: int, rows: int
) -> None:
    folder = boot_folder(tmp_path_factory.mktemp("spool"), "boot")
    frames = [step_frame(i, rows) for i in range(4)]
    dead = Spool(folder, BIG)
    for frame in frames:
        dead.append(frame)
    dead.abandon()
    path = folder / "0000000000.seg"
    kept = path.stat().st_size - min(cut, len(frames[-1]))
    os.truncate(path, kept)
    (heir,) = adopt(folder.parent, BIG)
    assert drain(heir) == frames[:3]
    heir.close()


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_at_most_its_record(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    folder = boot_folder(tmp_path_factory.mktemp("spool"), "boot")
    frames = [step_frame(i, 2) for i in range(5)]
    dead = Spool(folder, BIG)
    for frame in frames:
        dead.append(frame)
    dead.abandon()
    path = folder / "0000000000.seg"
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))
    (heir,) = adopt(folder.parent, BIG)
    left = drain(heir)
    heir.close()
    sound = [frame for frame in left if frame in frames]
    assert sound == [frame for frame in frames if frame in left]
    assert len(sound) == 4


def test_a_torn_head_file_repeats_but_loses_nothing(tmp_path: Path) -> None:
    folder = boot_folder(tmp_path, "boot")
    frames = [step_frame(i) for i in range(3)]
    dead = Spool(folder, BIG)
    for frame in frames:
        dead.append(frame)
    dead.peek(BIG, 1)
    dead.ack(1)
    dead.abandon()
    (folder / "head").write_bytes(b"torn")
    (heir,) = adopt(tmp_path, BIG)
    assert drain(heir) == frames
    heir.close()


def test_over_the_bound_the_oldest_go_and_are_declared_exactly(tmp_path: Path) -> None:
    bound = 64 << 10
    spool = Spool(boot_folder(tmp_path, "boot"), bound)
    count = 400
    for number in range(count):
        spool.append(step_frame(number))
        assert spool.size_bytes <= bound + 4096
    left = drain(spool)
    spool.close()
    seqs, gaps = covered(left)
    assert gaps == set(range(min(seqs)))
    assert set(seqs) == set(range(max(gaps) + 1, count * 10))
    assert spool.lost_events == len(gaps)
    assert seqs == sorted(seqs)


def test_what_is_in_flight_does_not_go(tmp_path: Path) -> None:
    spool = Spool(boot_folder(tmp_path, "boot"), 64 << 10)
    frames = [step_frame(i) for i in range(300)]
    spool.append(frames[0])
    assert spool.peek(BIG) == frames[:1]
    for frame in frames[1:]:
        spool.append(frame)
    spool.ack(1)
    left = drain(spool)
    spool.close()
    seqs, gaps = covered(left)
    assert gaps
    assert not gaps & set(range(10))
    assert set(range(10)) | gaps | set(seqs) == set(range(3000))


def test_leftovers_of_many_boots_are_held_to_the_bound(tmp_path: Path) -> None:
    """A worker that crashes again and again must not fill the disk."""
    for boot in ("a", "b", "c"):
        dead = Spool(boot_folder(tmp_path, boot), BIG)
        for number in range(100):
            dead.append(step_frame(number, boot=boot))
        dead.abandon()
    heirs = adopt(tmp_path, 100 << 10)
    assert sum(heir.size_bytes for heir in heirs) < 150 << 10
    for heir in heirs:
        seqs, gaps = covered(drain(heir))
        assert set(seqs) | gaps == set(range(1000))
        heir.close()


def test_segments_made_by_an_heir_follow_the_dead_owners(tmp_path: Path) -> None:
    dead = Spool(boot_folder(tmp_path, "boot"), BIG)
    dead.append(step_frame(0))
    dead.abandon()
    (heir,) = adopt(tmp_path, BIG)
    later = step_frame(1)
    heir.append(later)
    assert drain(heir)[-1] == later
    heir.close()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_merged_gaps_cover_the_same_numbers(gaps: list[tuple[int, int]]) -> None:
    merged = merge_gaps(gaps)
    assert {n for a, b in merged for n in range(a, b)} == {n for a, b in gaps for n in range(a, b)}
    assert all(a[1] < b[0] for a, b in pairwise(merged))


class TestOutbox:
    @pytest.fixture
    def outbox(self, tmp_path: Path) -> Iterator[Outbox]:
        made = Outbox(lambda: Spool(boot_folder(tmp_path, "boot"), BIG))
        yield made
        made.close()

    def test_a_healthy_server_means_no_disk(self, outbox: Outbox, tmp_path: Path) -> None:
        frames = [step_frame(i) for i in range(3)]
        outbox.put(frames)
        assert outbox.peek() == frames
        outbox.ack(3)
        assert outbox.empty
        assert not list(tmp_path.iterdir())

    def test_after_a_failure_order_is_kept_across_disk_and_memory(self, outbox: Outbox) -> None:
        frames = [step_frame(i) for i in range(9)]
        outbox.put(frames[:3])
        outbox.peek()
        outbox.put(frames[3:6])
        outbox.fail()
        outbox.put(frames[6:])
        assert outbox.spooled_frames == 9
        assert outbox.peek() == frames
        outbox.ack(9)
        assert outbox.empty

    def test_frames_in_a_slow_delivery_go_to_disk_and_are_settled_there(
        self, tmp_path: Path
    ) -> None:
        outbox = Outbox(lambda: Spool(boot_folder(tmp_path, "boot"), BIG), patience_s=0.0)
        frames = [step_frame(i) for i in range(4)]
        outbox.put(frames[:2])
        assert outbox.peek() == frames[:2]
        outbox.put(frames[2:])
        assert outbox.spooled_frames == 4
        outbox.ack(2)
        assert outbox.peek() == frames[2:]
        outbox.ack(2)
        assert outbox.empty
        outbox.close()

    def test_on_request_every_spill_is_forced_to_the_medium(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forced: list[int] = []
        monkeypatch.setattr(os, "fsync", forced.append)
        kept, plain = (
            Outbox(lambda: Spool(boot_folder(tmp_path, "kept"), BIG, synced=True)),
            Outbox(lambda: Spool(boot_folder(tmp_path, "plain"), BIG)),
        )
        plain.put([step_frame(0)])
        plain.fail()
        assert forced == []
        kept.put([step_frame(i) for i in range(9)])
        kept.fail()
        made = len(forced)
        assert made >= 3, "the folder of spools, the boot's, and the segment"
        kept.put([step_frame(9)])
        assert len(forced) == made + 1, "once for all frames of a spill"
        kept.close()
        plain.close()

    def test_without_a_disk_memory_is_bounded_and_loss_is_declared(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def no_disk() -> Spool:
            raise PermissionError("read-only")

        frames = [step_frame(i) for i in range(20)]
        outbox = Outbox(no_disk, memory_bytes=sum(map(len, frames[:5])))
        with caplog.at_level(logging.WARNING, "penstock"):
            outbox.put(frames[:2])
            assert outbox.peek() == frames[:2]
            outbox.put(frames[2:])
        assert len(caplog.records) == 1
        outbox.ack(2)
        left = outbox.peek()
        seqs, _ = covered(left)
        gaps = {n for low, high in outbox.take_gaps() for n in range(low, high)}
        assert gaps
        assert set(seqs) | gaps == set(range(20, 200))
        assert outbox.lost_events == len(gaps)
        assert outbox.take_gaps() == ()

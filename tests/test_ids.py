"""Ids sort by the time they were made, and are never made twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

from celery_flows import ids
from celery_flows.ids import new_id


def test_an_id_is_a_uuid_of_version_7() -> None:
    """Of 36 characters, lower case, with the time of its making in front."""
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    found = UUID(made)
    assert (str(found), found.version, found.variant) == (made, 7, RFC_4122)
    # Ids made faster than they are counted run ahead of the clock, by far less than this.
    assert before <= found.int >> 80 <= after + 1_000


def test_ids_sort_as_they_were_made() -> None:
    """Also those of one millisecond, so that an index over them grows at one end."""
    made = [new_id() for _ in range(5_000)]
    assert made == sorted(made)


def test_threads_make_no_id_twice() -> None:
    """Each thread's own ids keep their order, and all are different."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_id() for _ in range(500)], range(8)))
    assert all(one == sorted(one) for one in made)
    assert len({each for one in made for each in one}) == 4_000


def test_a_forked_child_makes_other_ids() -> None:
    """Both begin at the same count, and are told apart by chance; a lock held at the fork is nobody's."""
    reading, writing = os.pipe()
    with ids._lock:
        pid = _fork_beside(writing)
    os.close(writing)
    theirs = os.read(reading, 100_000).decode().split()
    os.close(reading)
    ours = [new_id() for _ in range(100)]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(theirs) == 100
    assert not {*ours} & {*theirs}


def _fork_beside(writing: int) -> int:
    forked: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            # A lock of a thread that does not exist here would be waited for until this rings.
            signal.alarm(20)
            os.write(writing, "\n".join(new_id() for _ in range(100)).encode())
            os._exit(0)
        forked.append(pid)

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join(30)
    return forked[0]

"""Many fits as a stream: some are asked for at a time, and forgotten once used."""

from __future__ import annotations

import contextlib
import time
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.loop import TICK_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from pytest_pyhf_faas.campaign.campaign import Campaign
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import Task

#: The least number of fits under way: full batches for a few workers.
_FEWEST = 2_000
#: How many for each worker, for its batches and those that wait.
_OF_A_WORKER = 50
#: Results that wait for an earlier one are kept, up to this many times those under way.
_HELD = 4


def stream(
    campaign: Campaign,
    tasks: Iterable[Task],
    count: int,
    send: Callable[[list[Task]], None],
    on_tick: Callable[[], bool],
) -> Iterator[tuple[Task, HypotestResult]]:
    """Yield tasks with their results, in the order of the tasks, as they come.

    Memory does not grow with their number: the campaign forgets each that has been yielded.

    Parameters
    ----------
    campaign : Campaign
        The campaign that runs them.
    tasks : iterable of Task
        Made one by one.
    count : int
        How many they are.
    send : callable
        Submits some of them to the campaign.
    on_tick : callable
        Called now and then, and before more are sent; says whether to go on. If not, what is under
        way is the last.
    """
    coming = iter(tasks)
    ended: SimpleQueue[Future[HypotestResult]] = SimpleQueue()
    held: dict[int, tuple[Task, Future[HypotestResult], bool]] = {}
    window = max(_FEWEST, _OF_A_WORKER * campaign.engine.workers)
    sent = under_way = given = 0
    ticked_at = time.monotonic()
    while True:
        if sent < count and 2 * under_way <= window and len(held) <= _HELD * window:
            some = list(islice(coming, window - under_way)) if on_tick() else []
            if not some:
                count = sent
            else:
                known = [task in campaign for task in some]
                # With these: if all others are done, the count of fits must not start again.
                campaign.expect(count - sent)
                send(some)
                campaign.expect(count - sent - len(some))
                for task, was_known in zip(some, known, strict=True):
                    future = campaign.result(task)
                    held[sent] = task, future, was_known
                    future.add_done_callback(ended.put)
                    sent += 1
                under_way += len(some)
        if given == count:
            return
        with contextlib.suppress(Empty):
            ended.get(timeout=TICK_S)
            under_way -= 1
        if time.monotonic() - ticked_at >= TICK_S:
            ticked_at = time.monotonic()
            on_tick()
        while given < sent and held[given][1].done():
            task, future, was_known = held.pop(given)
            given += 1
            if not was_known:
                campaign.forget(task)
            yield task, future.result()

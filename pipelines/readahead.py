"""Shards of a dataset at a URL, brought to this machine in the order in which a loader is going to need them.

A step needs the shards whose use has begun and has not ended. They are fetched first; then as many of those to come, so
that one window is read while the next arrives; beyond the end of an epoch, which may be the last, only as many as are
fetched at once. What is needed and not there yet is fetched by whoever reads it. The node's cache drops what is needed
last, as told by all loaders on it.
"""

import heapq
import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pipelines.sampling.reads import ShardUse
from selfie_data.cache.plans import Plan, PlannedUse
from selfie_data.cache.shard_cache import CachedShard, ShardCache, too_small
from selfie_data.dataset.manifest import Manifest
from selfie_data.errors import CacheError, SelfieDataError

FETCHES = 8  # at once: parts of 8 MiB, so 64 MiB of memory; a connection to S3 gives 85-90 MB/s
_KNOWN = 4_096  # uses that are looked ahead, 48 bytes each in the plan, which all of a node read to make room: 2 ms
_log = logging.getLogger(__name__)


class Readahead:
    """The shards of one loader; see `dataset.opened.ShardOpener`. Threads start with the first epoch.

    Args:
        manifest: of the dataset.
        cache: of its shards.
        reads: (epoch, from_step) -> what this rank reads of the epoch, rising by first step.
        steps: of an epoch.
        bring_rows: reads the rows of a shard, if they are not held.
        prefetch: how many steps beyond the one that is waited for may be under way.
        few: whether few shards are needed at a time.
    """

    def __init__(
        self,
        manifest: Manifest,
        cache: ShardCache,
        reads: Callable[[int, int], Iterator[ShardUse]],
        *,
        bring_rows: Callable[[int], None],
        steps: int,
        prefetch: int,
        few: bool,
    ) -> None:
        self.few = few
        self._manifest = manifest
        self._cache = cache
        self._reads = reads
        self._bring_rows = bring_rows
        self._steps = steps
        self._prefetch = prefetch
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._plan: Plan | None = None
        self._uses: Iterator[ShardUse] = iter(())
        self._known: list[ShardUse] = []  # by first step, which is counted through the epochs
        self._begun = self._sent = 0  # how many of them have begun, are or were being fetched
        self._again: list[tuple[int, ShardUse]] = []  # a heap by first step: there was no room for these
        self._stalled = False  # there is none until a shard is done with
        self._flying = 0
        self._live: dict[int, int] = {}  # shard -> last step of the uses that have begun
        self._at = self._end = self._farthest = 0  # the last: first step of what was fetched ahead

    def begin(self, epoch: int, step: int) -> None:
        """Begins, or goes on with, an epoch; nothing is under way.

        Raises:
            CacheError: the cache may not hold what the first step needs, or this is a forked process.
        """
        self._check_process()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(FETCHES, thread_name_prefix="selfie-fetch")
                self._plan = Plan(self._cache.home.folder)
            self._at, self._end = epoch * self._steps + step, (epoch + 1) * self._steps
            self._uses = itertools.chain(self._counted(epoch, step), self._counted(epoch + 1, 0))
            self._known, self._begun, self._sent = [], 0, 0
            self._live, self._stalled, self._farthest = {}, False, 0
            self._again.clear()
            self._look_ahead()
            self._check_room()
            self._fetch_ahead()

    def advance(self, epoch: int, step: int) -> None:
        """Says that the batches before `step` are made: what only they needed may go."""
        with self._lock:
            self._at = epoch * self._steps + step
            assert self._plan is not None
            self._plan.advance(self._at)
            self._look_ahead()
            self._fetch_ahead()

    def open(self, shard: int) -> int:
        """Returns a descriptor of a shard; waits until it is here.

        Raises:
            CacheError, DatasetError, StorageError: as `ShardCache.open`; or this is a forked process.
        """
        self._check_process()
        descriptor = self._cache.open(self._cached(shard))
        assert descriptor is not None
        return descriptor

    def is_needed(self, shard: int) -> bool:
        """Says whether a batch that is under way may read of a shard."""
        with self._lock:
            return shard in self._live

    def close(self) -> None:
        """Ends the threads. May be called twice."""
        if os.getpid() != self._process:
            return  # they are not here
        self._cache.close()
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.close()

    def _counted(self, epoch: int, from_step: int) -> Iterator[ShardUse]:
        """Yields uses with steps that are counted through the epochs."""
        begin = epoch * self._steps
        for use in self._reads(epoch, from_step):
            yield ShardUse(use.shard, begin + use.first, begin + use.last)

    def _look_ahead(self) -> None:
        """Notes which uses have begun and which have ended, and keeps the plan long enough."""
        if len(self._known) - self._sent < _KNOWN // 2:
            done = min(self._begun, self._sent)
            del self._known[:done]
            self._begun, self._sent = self._begun - done, self._sent - done
            more = list(itertools.islice(self._uses, _KNOWN - len(self._known)))
            if more:
                self._known += more
                self._publish()
        there = len(self._live)
        self._live = {shard: last for shard, last in self._live.items() if last >= self._at}
        self._stalled = self._stalled and len(self._live) == there
        under_way = min(self._at + self._prefetch, self._end - 1)
        while self._begun < len(self._known) and self._known[self._begun].first <= under_way:
            use = self._known[self._begun]
            self._live[use.shard] = max(use.last, self._live.get(use.shard, 0))
            self._begun += 1

    def _publish(self) -> None:
        live = [ShardUse(shard, self._at, last) for shard, last in self._live.items()]
        digests = self._manifest.shards
        assert self._plan is not None
        uses = (PlannedUse(digests[use.shard].sha256, use.first, use.last) for use in (*live, *self._known))
        self._plan.replace(self._at, uses)

    def _check_room(self) -> None:
        needed, allowed = sum(self._manifest.shards[shard].bytes for shard in self._live), self._cache.allowed
        if needed > allowed:
            raise CacheError(too_small(self._cache.home.folder, allowed, needed))

    def _fetch_ahead(self) -> None:
        while self._flying < FETCHES and not self._stalled and self._pool is not None:
            use = self._next()
            if use is None:
                return
            self._flying += 1
            self._pool.submit(self._fetch, use)

    def _next(self) -> ShardUse | None:
        """Returns what to fetch next, None if that is far enough ahead."""
        if self._again:
            return heapq.heappop(self._again)[1]
        if self._sent == len(self._known):
            return None
        use = self._known[self._sent]
        ahead = FETCHES if use.first >= self._end else max(FETCHES, len(self._live))
        if self._sent - self._begun >= ahead:
            return None
        self._sent += 1
        self._farthest = use.first
        return use

    def _fetch(self, use: ShardUse) -> None:
        here = use.last < self._at  # whoever read it has fetched it, and nobody else will
        try:
            if not here:
                descriptor = self._cache.open(self._cached(use.shard), distance=self._distance(use))
                here = descriptor is not None
                if descriptor is not None:
                    os.close(descriptor)
                    self._bring_rows(use.shard)
        except (SelfieDataError, OSError) as error:  # whoever needs the shard tries again, and tells it
            _log.debug("fetching ahead: %s", error)
        finally:
            with self._lock:
                self._flying -= 1
                if not here:
                    heapq.heappush(self._again, (use.first, use))
                    self._stalled = True
                self._fetch_ahead()

    def _distance(self, use: ShardUse) -> int:
        """Returns within how many steps what is needed may not make room for a use: what was fetched ahead may not."""
        return 0 if use.first <= self._at else max(use.first, self._farthest) - self._at

    def _cached(self, shard: int) -> CachedShard:
        entry = self._manifest.shards[shard]
        return CachedShard(entry.name, entry.bytes, entry.sha256)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise CacheError(
                "this process was forked from one that made the loader, and a dataset at a URL does not survive that: "
                'make the loader here, in a process started by multiprocessing.get_context("spawn") or "forkserver"'
            )

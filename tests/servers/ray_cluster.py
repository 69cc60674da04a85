"""A real Ray cluster on loopback: a head without CPUs and nodes of one CPU, each with an address of its own.

A head at 127.0.0.1 would tell drivers the machine's first address and wait there for minutes; 127.0.0.2 and following
are told as they are.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

_MEMORY = 80 << 20  # of each node's object store
_ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "RAY_AUTH_MODE": "disabled",  # else it depends on a file in the user's home
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",  # a dead node is noticed after 2 s, not 20
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class RayCluster:
    """A head and nodes, at 127.0.0.3 and following, whose processes have `environment` besides this process's."""

    def __init__(self, environment: dict[str, str], nodes: int) -> None:
        from ray.cluster_utils import Cluster

        self.environment = environment | _ENVIRONMENT
        self.addresses = {f"127.0.0.{3 + number}" for number in range(nodes)}
        self.nodes, self.dead = dict[str, Any](), list[Any]()
        head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "object_store_memory": _MEMORY}
        with self._in_environment():
            self.cluster: Any = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
        self.address = str(self.cluster.address)

    def mend(self) -> None:
        """Starts the nodes that are not there, and waits for them."""
        for node in self.dead:
            self.cluster.remove_node(node, allow_graceful=False)
        self.dead.clear()
        with self._in_environment():
            for address in sorted(self.addresses - self.nodes.keys()):
                self.nodes[address] = self.cluster.add_node(
                    num_cpus=1, node_ip_address=address, object_store_memory=_MEMORY, wait=False
                )
        self.cluster.wait_for_nodes(30)

    def kill_node(self, address: str, *, whole: bool = False) -> None:
        """Kills what a node talks by: its workers, and those who talk to it, are left to notice.

        With `whole` its workers are killed too, as when the machine is gone.
        """
        node = self.nodes.pop(address)
        self.dead.append(node)
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in (raylet, *(raylet.children(recursive=True) if whole else ())):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def tasks(self) -> list[psutil.Process]:
        """Returns the processes of its nodes in which a shard is being built."""
        found = []
        for node in self.nodes.values():
            for process in psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "ray::build_there" in " ".join(process.cmdline()):
                        found.append(process)
        return found

    @contextlib.contextmanager
    def _in_environment(self) -> Iterator[None]:
        before = dict(os.environ)
        os.environ |= self.environment
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def ray_cluster(environment: dict[str, str], *, nodes: int = 2) -> Iterator[RayCluster]:
    """Starts a cluster and ends all of it."""
    started = RayCluster(environment, nodes)
    try:
        started.mend()
        yield started
    finally:
        started.cluster.shutdown()

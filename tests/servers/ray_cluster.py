"""A real Ray cluster on loopback: a head without CPUs and nodes of one CPU, each with an address of its own.

A head at 127.0.0.1 would tell drivers the machine's first address and wait there for minutes; 127.0.0.2 and following
are told as they are.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MEMORY = 80 << 20  # of each node's object store
_ENVIRONMENT = {
    "PYTHONPATH": str(Path(__file__).parents[2]),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",  # a dead node is noticed after 2 s, not 20
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class RayCluster:
    """A head and two nodes. What a node runs has the environment of this process's at the node's start."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "object_store_memory": _MEMORY}
        self.cluster: Any = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
        self.address = str(self.cluster.address)
        self.nodes, self.dead = dict[str, Any](), list[Any]()
        self.mend()

    def mend(self) -> None:
        """Starts the nodes that are not there, and waits for them."""
        for node in self.dead:
            self.cluster.remove_node(node, allow_graceful=False)
        self.dead.clear()
        for number in (3, 4):
            address = f"127.0.0.{number}"
            if address not in self.nodes:
                self.nodes[address] = self.cluster.add_node(
                    num_cpus=1, node_ip_address=address, object_store_memory=_MEMORY, wait=False
                )
        self.cluster.wait_for_nodes(30)

    def kill_node(self, address: str) -> None:
        """Kills what a node talks by: its workers, and those who talk to it, are left to notice."""
        node = self.nodes.pop(address)
        self.dead.append(node)
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)


@contextlib.contextmanager
def ray_cluster(environment: dict[str, str]) -> Iterator[RayCluster]:
    """Starts a cluster whose processes have `environment` besides this process's; ends all of it."""
    before = dict(os.environ)
    os.environ |= environment | _ENVIRONMENT
    try:
        cluster = RayCluster()
        try:
            yield cluster
        finally:
            cluster.cluster.shutdown()
    finally:
        os.environ.clear()
        os.environ.update(before)

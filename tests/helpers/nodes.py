"""A real Ray cluster for tests, in a process of its own: Ray leaves files open, and in tests warnings are errors.

with Nodes() as nodes:                   # two nodes with a core each
    run(folder, *nodes.flags)
    doomed = nodes.add()
    nodes.kill(doomed)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent.parent


class Nodes:
    """The cluster, from the test's side."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.address = self._answer()

    @property
    def flags(self) -> list[str]:
        """The command's flags to train there."""
        return ["--distributed", "ray", "--ray_address", self.address]

    def add(self) -> str:
        """Adds a node with one core and returns its id."""
        return self._ask("add")

    def kill(self, node: str) -> None:
        """Kills a node with all its processes."""
        self._ask(f"kill {node}")

    def _ask(self, words: str) -> str:
        assert self._process.stdin
        print(words, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout
        answer = self._process.stdout.readline().strip()
        assert answer, "the cluster has not started, or is gone"
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)  # its input ends


def serve() -> None:
    """Runs the cluster; the side of the process of its own."""
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1}
    cluster: Any = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    print(cluster.address, flush=True)
    added = {}
    for line in sys.stdin:
        what, *which = line.split()
        if what == "add":
            another = cluster.add_node(**node)
            added[another.node_id] = another
            print(another.node_id, flush=True)
        else:
            cluster.remove_node(added.pop(*which), allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    serve()

"""How far a cluster goes: what each of its parts allows, from what was measured on one machine.

    python -m benchmarks.model
    python -m benchmarks.model --nodes 20 --cores 8 --registries 8

The tables of docs/scaling.md come from here. It is arithmetic: costs add up, and nothing gets
dearer with the number of machines but what is said to. A part is full at `FULL` of its CPUs.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

FULL = 0.7
"""The share of a CPU that is used before waiting times grow."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What was measured.

    Attributes:
        actor_ms, registry_ms, postgres_ms, gateway_ms: CPU of a trivial isolated run with many
            clients (the table of docs/benchmarks.md, on a quiet machine).
        wal_kib: what PostgreSQL writes to its log for it.
        token_ms, busy_token_ms: CPU of a gateway for a token that comes by itself: 8 streams of
            50 a second of as many processes, and 32 of one.
        stream_kib, stream_cpu: memory of all processes for an open stream, and the part of a CPU
            that it takes while it is silent.
    """

    actor_ms: float = 5.5
    registry_ms: float = 2.2
    postgres_ms: float = 2.8
    gateway_ms: float = 1.5
    wal_kib: float = 16.2
    token_ms: float = 0.35
    busy_token_ms: float = 0.15
    stream_kib: float = 64.0
    stream_cpu: float = 0.00004


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The machines, and what runs on them.

    Attributes:
        nodes: machines with run actors.
        cores, memory_gib, files: of each of them; open files of a process.
        registries: with a CPU of the head node each.
        gateways: with a CPU each; each of their nodes has an HAProxy.
        database_cores: of PostgreSQL's machine.
        log_mib_s: what the disk of PostgreSQL's log takes.
    """

    nodes: int = 100
    cores: int = 16
    memory_gib: int = 64
    files: int = 65_536
    registries: int = 16
    gateways: int = 100
    database_cores: int = 64
    log_mib_s: float = 500.0

    @property
    def actors(self) -> int:
        """Isolated run actors, one for each CPU that no gateway has."""
        return self.nodes * self.cores - self.gateways


def runs_a_second(cluster: Cluster, costs: Costs) -> dict[str, float]:
    """Returns how many trivial runs a second each part allows."""
    return {
        f"{cluster.actors:,} run actors, a CPU each": _a_second(cluster.actors, costs.actor_ms),
        f"registries: {cluster.registries}": _a_second(cluster.registries, costs.registry_ms),
        f"PostgreSQL: {cluster.database_cores} CPUs": _a_second(
            cluster.database_cores, costs.postgres_ms
        ),
        f"PostgreSQL: {cluster.log_mib_s:g} MiB/s of log": cluster.log_mib_s * 1024 / costs.wal_kib,
        f"gateways: {cluster.gateways}": _a_second(cluster.gateways, costs.gateway_ms),
    }


def streams(cluster: Cluster, costs: Costs, tokens_a_second: float = 50.0) -> dict[str, float]:
    """Returns how many open streams each part allows; of its CPUs with so many tokens each."""
    connections = min(20_000, (cluster.files - 200) // 2)
    gateways = cluster.gateways
    gib = cluster.memory_gib * 0.25 * gateways
    found = {
        f"connections of {gateways} HAProxies": gateways * connections,
        f"a quarter of the memory of {gateways} nodes": gib * 2**20 / costs.stream_kib,
        f"CPUs of {gateways} gateways, silent streams": gateways * FULL / costs.stream_cpu,
    }
    for how, ms in (("isolated", costs.token_ms), ("dense", costs.busy_token_ms)):
        name = f"CPUs of {gateways} gateways, {tokens_a_second:g} tokens a second, {how}"
        cpus = costs.stream_cpu + ms * tokens_a_second / 1000
        found[name] = gateways * FULL / cpus
    return found


def connections(cluster: Cluster, graphs: int = 5) -> int:
    """Returns the connections to PostgreSQL without a pooler (docs/deploy.md)."""
    registries, inspectors = 6 * cluster.registries, 2 * 4 + 2 * graphs
    return registries + inspectors + 4 * cluster.gateways + 2 * cluster.actors + 3


def _a_second(cpus: float, ms: float) -> float:
    return cpus * FULL * 1000 / ms


def _rows(head: str, found: dict[str, float]) -> str:
    lines = [f"| {head} | at most |", "|---|---:|"]
    ordered = sorted(found.items(), key=lambda each: each[1])
    return "\n".join([*lines, *(f"| {part} | {value:,.0f} |" for part, value in ordered)])


def document(cluster: Cluster, costs: Costs) -> str:
    """Returns the tables, what breaks first at their beginning."""
    return "\n\n".join(
        (
            _rows("trivial runs a second, isolated", runs_a_second(cluster, costs)),
            _rows("open streams", streams(cluster, costs)),
            f"Connections to PostgreSQL without a pooler: {connections(cluster):,}.",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    default = Cluster()
    for name in ("nodes", "cores", "memory_gib", "files", "registries", "gateways"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(default, name))
    parser.add_argument("--database-cores", type=int, default=default.database_cores)
    given = parser.parse_args()
    print(document(Cluster(**vars(given)), Costs()))


if __name__ == "__main__":
    main()

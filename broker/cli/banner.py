"""What a node says on its terminal once it serves: where it is, what runs, what to type next."""

from pathlib import Path

from broker.config import HostPort, Listener
from broker.config.values import WILDCARD_HOSTS
from broker.telemetry.start import BannerInfo

_DURABILITY = {
    "each": "every acknowledged record has been synced to the disk (--fsync each)",
    "none": "NOT durable: a power cut loses acknowledged records (--fsync none)",
}


def banner(info: BannerInfo, *, cli: str = "walrus-cli") -> str:
    """The text, without a newline at its end. `cli` is how to call walrus-cli."""
    status = info.status
    native = _dial(info.native)
    rows = [("native", str(info.native))]
    rows += [("kafka", _listener(listener)) for listener in info.kafka]
    rows += [
        ("admin", f"http://{_dial(info.admin)}  (/healthz /readyz /metrics /v1/status)"),
        ("data", str(Path(status.data_dir).absolute())),
        ("node", f"{status.node_id} of cluster {status.cluster_id}"),
        ("storage", f"{status.backend}: {status.backend_reason}"),
        ("durability", durability(status.fsync)),
    ]
    lines = ["Walrus is serving. Ctrl-C stops it.", ""]
    lines += [f"  {name:<11} {value}" for name, value in rows]
    lines += [
        "",
        "Create, produce, consume:",
        f"  {cli} --addr {native} register hello",
        f"  {cli} --addr {native} put hello 'hello world'",
        f"  {cli} --addr {native} get hello",
    ]
    if info.kafka:
        broker = _dial(HostPort(info.kafka[0].bind_host, info.kafka[0].bind_port))
        lines += [
            "The same topic with a Kafka client:",
            f"  echo 'hello kafka' | kcat -b {broker} -t hello -P",
            f"  kcat -b {broker} -t hello -C -o beginning -e",
        ]
    return "\n".join(lines)


def durability(fsync: str) -> str:
    """One sentence on what an acknowledgement means under this `fsync` setting."""
    return _DURABILITY.get(fsync) or (
        f"a power cut loses up to {fsync} ms of acknowledged records (--fsync {fsync})"
    )


def _listener(listener: Listener) -> str:
    bound = HostPort(listener.bind_host, listener.bind_port)
    advertised = HostPort(listener.advertised_host, listener.advertised_port)
    if advertised == bound:
        return f"{bound}  ({listener.name})"
    return f"{bound}  ({listener.name}, clients are told {advertised})"


def _dial(bound: HostPort) -> HostPort:
    """How somebody on this machine reaches it."""
    if bound.host not in WILDCARD_HOSTS:
        return bound
    return HostPort("::1" if bound.host == "::" else "127.0.0.1", bound.port)

"""Hosts as network namespaces on one switch, and faults of their network connections.

The namespaces have no names: each exists as long as a process that reads from a pipe of this process.
So they disappear with their links and rules when this process ends, however it ends. Needs root.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .commands import ROOT, eventually

__all__ = ["Host", "Network", "unavailable", "network"]

BLOCK = "198.18"
"""Addresses reserved for benchmarks (RFC 2544)."""
TOOLS = ("ip", "tc", "iptables", "unshare", "nsenter", "setpriv")


def unavailable() -> str | None:
    """The reason why no hosts can be created on this machine, or None."""
    if importlib.util.find_spec("distributed") is None:
        return "distributed is not installed"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if lacking := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(lacking)}"
    if not Path("/dev/net/tun").exists():
        return "/dev/net/tun does not exist"
    try:
        with network(1) as net, net.hosts[0].slow("1mbit"), net.hosts[0].losing(0.1):
            pass
    except (subprocess.CalledProcessError, OSError) as error:
        said = getattr(error, "stderr", None) or error
        return f"no network namespace can be used: {said}"
    return None


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with a link, ``eth0``, to the switch."""

    address: str
    namespace: int
    """The process that holds the namespace."""
    switch: int
    """The process that holds the namespace of the switch."""

    def run(self, *command: str) -> None:
        """Run a command in the namespace."""
        _run(self.namespace, *command)

    def processes(self) -> list[int]:
        """Processes in the namespace."""
        return [pid for pid in _inside(self.namespace) if pid != self.namespace]

    def kill(self) -> None:
        """Kill all its processes; their connections are closed."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """The link is down; connections stay open without traffic."""
        with self._between(
            ("ip", "link", "set", "eth0", "down"), ("ip", "link", "set", "eth0", "up")
        ):
            yield

    @contextmanager
    def losing(self, share: float) -> Iterator[None]:
        """Drop this share of all packets, in both directions."""
        some = (
            ()
            if share == 1
            else ("-m", "statistic", "--mode", "random", "--probability", str(share))
        )
        with ExitStack() as stack:
            for chain in ("INPUT", "OUTPUT"):
                rule = (chain, *some, "-j", "DROP")
                stack.enter_context(
                    self._between(("iptables", "-A", *rule), ("iptables", "-D", *rule))
                )
            yield

    @contextmanager
    def slow(self, rate: str) -> Iterator[None]:
        """Its outgoing traffic is limited to this rate, such as ``256kbit``."""
        limit = ("tbf", "rate", rate, "burst", "4kb", "latency", "10s")
        with self._between(
            ("tc", "qdisc", "add", "dev", "eth0", "root", *limit),
            ("tc", "qdisc", "del", "dev", "eth0", "root"),
        ):
            yield

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """Every packet is delayed by this time, in both directions."""
        near, far = (f"{end}{secrets.token_hex(3)}" for end in ("near", "far"))
        line = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "nsenter", "--net", "--target", str(self.switch),
             sys.executable, "-m", "chaos.line", near, far, str(seconds)],
            cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert line.stdout is not None
        with line, self.unplugged():
            try:
                line.stdout.readline()
                _run(self.switch, "ip", "link", "set", near, "master", "switch", "up")
                _run(self.switch, "ip", "link", "set", far, "netns", str(self.namespace))
                self.run("ip", "link", "set", far, "address", _mac(self.address), "up")
                self.run("ip", "address", "add", f"{self.address}/24", "dev", far)
                yield
            finally:
                line.kill()

    @contextmanager
    def _between(self, begin: tuple[str, ...], end: tuple[str, ...]) -> Iterator[None]:
        self.run(*begin)
        try:
            yield
        finally:
            self.run(*end)


@dataclass(frozen=True, slots=True)
class Network:
    """A switch with an address, and its hosts; this process is connected to it as well."""

    address: str
    namespace: int
    hosts: tuple[Host, ...]


@contextmanager
def network(count: int) -> Iterator[Network]:
    """Context manager of a network of ``count`` hosts."""
    subnet = _unused()
    with ExitStack() as stack:
        switch = stack.enter_context(_namespace())
        _run(switch, "ip", "link", "add", "switch", "type", "bridge")
        _run(switch, "ip", "address", "add", f"{subnet}.1/24", "dev", "switch")
        _run(switch, "ip", "link", "set", "switch", "up")
        ours = f"cm{os.getpid()}{secrets.token_hex(2)}"
        _run(
            None,
            "ip",
            "link",
            "add",
            ours,
            "type",
            "veth",
            "peer",
            "name",
            "us",
            "netns",
            str(switch),
        )
        stack.callback(_run, None, "ip", "link", "delete", ours)
        _plug(switch, "us")
        _run(None, "ip", "address", "add", f"{subnet}.2/24", "dev", ours)
        _run(None, "ip", "link", "set", ours, "up")
        hosts = []
        for number in range(count):
            pid = stack.enter_context(_namespace())
            host = Host(f"{subnet}.{10 + number}", pid, switch)
            port = f"port{number}"
            _run(
                switch,
                "ip",
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                str(pid),
            )
            _plug(switch, port)
            host.run("ip", "link", "set", "eth0", "address", _mac(host.address), "up")
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
            hosts.append(host)
        yield Network(f"{subnet}.1", switch, tuple(hosts))


@contextmanager
def _namespace() -> Iterator[int]:
    """A network namespace with a loopback device; gives the process that holds it."""
    holder = subprocess.Popen(
        ["unshare", "--net", "cat"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        here = _name(os.getpid())
        if not eventually(lambda: _name(holder.pid) not in (here, None)):
            raise OSError("no network namespace can be created")
        _run(holder.pid, "ip", "link", "set", "lo", "up")
        yield holder.pid
    finally:
        for pid in _inside(holder.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        holder.communicate()


def _plug(switch: int, port: str) -> None:
    _run(switch, "ip", "link", "set", port, "master", "switch", "up")


def _run(namespace: int | None, *command: str) -> None:
    enter = () if namespace is None else ("nsenter", "--net", "--target", str(namespace))
    subprocess.run([*enter, *command], check=True, capture_output=True, text=True)


def _name(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return None


def _inside(namespace: int) -> list[int]:
    name = _name(namespace)
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if name is not None and _name(pid) == name]


def _mac(address: str) -> str:
    """MAC address derived from the IP address, so that it stays the same on another link."""
    return "02:" + ":".join(f"{int(part):02x}" for part in ("0", *address.split(".")))


def _unused() -> str:
    routes = Path("/proc/net/route").read_text(encoding="ascii")
    taken = {line.split()[1] for line in routes.splitlines()}
    for number in range(os.getpid(), os.getpid() + 256):
        third = number % 256
        if f"00{third:02X}12C6" not in taken:
            return f"{BLOCK}.{third}"
    raise OSError(f"all of {BLOCK}.0.0/16 is in use")

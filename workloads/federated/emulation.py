"""Links for real: a TCP transfer between two network namespaces at a link's rate and delay, beside what the model says.

The rate comes from the kernel's token bucket (tbf). The delay comes from netem where the kernel has it; elsewhere from
two TUN devices with a process between them that holds every packet back, which carries about 200 Mbit/s. Faster links
are then emulated without delay. Needs root on Linux; nothing outside the new namespaces is touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import FederatedError
from .emulation_namespaces import inside, namespaces, run_tool
from .links import SEGMENT_WIRE_BYTES, Direction, Link, transfer_s

Way = Literal["netem", "tun", "veth"]

#: A transfer that the model says takes longer is cut to this many seconds' worth of bytes.
MOST_SECONDS = 60.0
#: What a process between two TUN devices carries, in Mbit/s.
MOST_DELAYED_MBPS = 200.0
#: What a machine moves between namespaces without being the bottleneck itself, in Mbit/s.
MOST_MBPS = 2000.0
_CLIENT, _SERVER = "10.213.0.1", "10.213.0.2"
_DEVICE = "uplink"
_ETHERNET_HEADER = 14
_SET_INTERFACE, _TUN_WITHOUT_HEADER = 0x400454CA, 0x0001 | 0x1000  # TUNSETIFF, IFF_TUN | IFF_NO_PI of linux/if_tun.h
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Transfer:
    """A transfer that was measured, and what the model says of it.

    Attributes:
        link: name of the link.
        direction: ``up`` or ``down``.
        size: bytes that were sent.
        asked: bytes of the message; more than ``size`` when it was cut, see :data:`MOST_SECONDS`.
        measured_s: from opening the connection until the last byte had arrived.
        model_s: the same by :func:`~.links.transfer_s`, for ``size``.
        way: ``netem`` or ``tun``, with the link's delay; ``veth``, at its rate without delay.
    """

    link: str
    direction: Direction
    size: int
    asked: int
    measured_s: float
    model_s: float
    way: Way

    @property
    def error(self) -> float:
        """How far the model is off: above 0 when it says more than was measured."""
        return self.model_s / self.measured_s - 1


def refusal() -> str | None:
    """Why links cannot be emulated here; ``None`` when they can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are a part of Linux, which this is not"
    if os.geteuid() != 0:
        return "network namespaces need root: run the command with sudo"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found: install iproute2"
    try:
        with namespaces(1) as (name,):
            run_tool("ip", "-n", name, "link", "add", "dev", _DEVICE, "type", "veth", "peer", "name", "other")
            _shape(name, 1.0, 0.0)
    except FederatedError as error:
        return f"this kernel or container does not allow it: {error}"
    return None


def check_allowed() -> None:
    """See that links can be emulated.

    Raises:
        FederatedError: they cannot, and why.
    """
    reason = refusal()
    if reason:
        raise FederatedError(f"links cannot be emulated: {reason}; without --emulate, times come from the links' model")


def way_of(link: Link) -> Way | None:
    """How a link would be emulated on this machine, ``None`` when it is too fast for any.

    Raises:
        FederatedError: it could be, but there is no /dev/net/tun.
    """
    fastest = max(link.up_mbps, link.down_mbps)
    if fastest > MOST_MBPS:
        return None
    if _has_netem():
        return "netem"
    if fastest > MOST_DELAYED_MBPS:
        return "veth"
    if not Path("/dev/net/tun").exists():
        raise FederatedError("links cannot be emulated: the kernel has neither netem nor /dev/net/tun")
    return "tun"


def emulate(size: int, link: Link, direction: Direction, way: Way | None = None) -> Transfer:
    """Send a message over an emulated link and take its time.

    Args:
        size: bytes of the message; a long one is cut, see :data:`MOST_SECONDS`.
        link: to emulate.
        direction: ``up`` from client to server, or ``down``; the sender opens the connection.
        way: how; by default what :func:`way_of` says.

    Raises:
        FederatedError: it cannot be emulated here, or the transfer broke off.
    """
    way = way or way_of(link)
    if way is None:
        raise FederatedError(f"{link.name} is too fast to be emulated: at most {MOST_MBPS:,.0f} Mbit/s")
    sent = max(1, min(size, int(link.rate(direction) * MOST_SECONDS)))
    with namespaces(2) as (client, server), _connected(client, server, link, way):
        ends = ((client, _CLIENT), (server, _SERVER))
        sender, receiver = ends if direction == "up" else ends[::-1]
        _transfer(1, sender[0], receiver)  # until whatever carries the packets has started
        measured = _transfer(sent, sender[0], receiver)
    modelled = link if way != "veth" else dataclasses.replace(link, rtt_ms=0.0, loss=0.0)
    return Transfer(link.name, direction, sent, size, measured, transfer_s(sent, modelled, direction), way)


@contextlib.contextmanager
def _connected(client: str, server: str, link: Link, way: Way) -> Iterator[None]:
    """Join two namespaces by a link, each shaped where it sends."""
    connect = _delayed if way == "tun" else _wired
    with connect(client, server, link):
        for name, mbps in ((client, link.up_mbps), (server, link.down_mbps)):
            _shape(name, mbps, link.rtt_ms, link.loss if way == "netem" else 0.0, way)
        yield


@contextlib.contextmanager
def _wired(client: str, server: str, link: Link) -> Iterator[None]:
    pair = ("dev", _DEVICE, "type", "veth", "peer", "name", _DEVICE, "netns", server)
    run_tool("ip", "-n", client, "link", "add", *pair)
    _set_up(client, _CLIENT, _SERVER)
    _set_up(server, _SERVER, _CLIENT)
    yield


@contextlib.contextmanager
def _delayed(client: str, server: str, link: Link) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(_tun(name)) for name in (client, server)]
        _set_up(client, _CLIENT, _SERVER)
        _set_up(server, _SERVER, _CLIENT)
        program = str(Path(__file__).with_name("emulation_delay.py"))
        figures = (str(link.rtt_ms * 1e-3 / 2), str(link.loss))
        with subprocess.Popen(
            [sys.executable, "-I", program, *map(str, sides), *figures], stdin=subprocess.PIPE, pass_fds=sides
        ) as carrier:
            yield
            assert carrier.stdin is not None
            carrier.stdin.close()


@contextlib.contextmanager
def _tun(name: str) -> Iterator[int]:
    """A TUN device in a namespace; it goes with its descriptor."""
    with inside(name):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _SET_INTERFACE, struct.pack("16sH22x", _DEVICE.encode(), _TUN_WITHOUT_HEADER))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _set_up(name: str, own: str, other: str) -> None:
    run_tool("ip", "-n", name, "address", "add", own, "peer", other, "dev", _DEVICE)
    run_tool("ip", "-n", name, "link", "set", "dev", _DEVICE, "up")


def _shape(name: str, mbps: float, rtt_ms: float, loss: float = 0.0, way: Way = "veth") -> None:
    """Hold what a namespace sends to a rate; the queue before it holds a round trip, as routers' do, or 64 packets."""
    rate = mbps * 1e6
    queue = max(64 * SEGMENT_WIRE_BYTES, int(rate / 8 * rtt_ms * 1e-3))
    burst = max(4 * SEGMENT_WIRE_BYTES, int(rate / 8 * 1e-3))
    place: tuple[str, ...] = ("root",)
    if way == "netem":
        packets = str(4 * queue // SEGMENT_WIRE_BYTES + 1000)
        figures = ("delay", f"{rtt_ms / 2}ms", "limit", packets, *(("loss", f"{loss:%}") if loss else ()))
        run_tool("tc", "-n", name, "qdisc", "add", "dev", _DEVICE, "root", "handle", "1:", "netem", *figures)
        place = ("parent", "1:1", "handle", "10:")
    header = ("overhead", str(_ETHERNET_HEADER)) if way == "tun" else ()
    bucket = ("tbf", "rate", f"{rate:.0f}bit", "burst", str(burst), "limit", str(queue), *header)
    run_tool("tc", "-n", name, "qdisc", "add", "dev", _DEVICE, *place, *bucket)


def _has_netem() -> bool:
    with namespaces(1) as (name,):
        try:
            run_tool("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
        except FederatedError:
            return False
    return True


def _transfer(size: int, sender: str, receiver: tuple[str, str]) -> float:
    """Seconds from opening a connection until the last byte has arrived."""
    with inside(receiver[0]):
        listener = socket.create_server((receiver[1], 0))
    with inside(sender):
        outgoing = _socket()
    arrived: dict[str, Any] = {"bytes": 0, "at": 0.0}
    patience = 4 * MOST_SECONDS
    with listener, outgoing:
        listener.settimeout(patience)
        outgoing.settimeout(patience)
        reader = threading.Thread(target=_receive, args=(listener, size, arrived, patience), daemon=True)
        reader.start()
        began = time.perf_counter()
        try:
            outgoing.connect(listener.getsockname())
            block = memoryview(bytes(_BLOCK))
            for first in range(0, size, _BLOCK):
                outgoing.sendall(block[: min(_BLOCK, size - first)])
            outgoing.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise FederatedError(f"the emulated transfer broke off: {error}") from error
        reader.join(patience)
    if arrived["bytes"] != size:
        raise FederatedError(f"the emulated transfer broke off after {arrived['bytes']:,} of {size:,} bytes")
    return float(arrived["at"] - began)


def _socket() -> socket.socket:
    """A TCP socket under CUBIC, Linux's own default, whatever this machine prefers."""
    made = socket.socket()
    with contextlib.suppress(OSError):  # a kernel without it uses what it has
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    return made


def _receive(listener: socket.socket, size: int, arrived: dict[str, Any], patience: float) -> None:
    buffer = bytearray(_BLOCK)
    with contextlib.suppress(OSError), listener.accept()[0] as incoming:
        incoming.settimeout(patience)
        while arrived["bytes"] < size:
            got = incoming.recv_into(buffer)
            if not got:
                return
            arrived["bytes"] += got
        arrived["at"] = time.perf_counter()

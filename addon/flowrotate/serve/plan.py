"""What `flow-rotate serve` is asked to do, checked before anything starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mitmproxy.proxy.mode_specs import ProxyMode

from flowrotate.guard import is_loopback

DEFAULT_LISTEN = "127.0.0.1:8080"
OPENERS = ("rotate_allow_clients", "proxyauth")
"""Options that say which clients of other machines are welcome."""

FLAGS = {"mode": "--mode", "listen_host": "--listen", "listen_port": "--listen"}
"""What has a flag of its own."""


class ServeError(ValueError):
    """What is wrong with what was given, and the mend."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`options` as mitmproxy's `--set` has them; `port` 0 is any that is free."""

    host: str
    port: int
    modes: tuple[str, ...] = ("regular",)
    options: tuple[str, ...] = ()
    verbose: bool = False
    quiet: bool = False
    """Warnings and errors alone."""
    log: Path | None = None
    private_to: int | None = None
    """The process that it is for, and with which it ends."""
    as_json: bool = False
    check: bool = False
    """Whether it could start, and no more."""


def make_plan(
    *,
    listen: str = DEFAULT_LISTEN,
    modes: Sequence[str] = (),
    secrets: str = "",
    confdir: str = "",
    options: Sequence[str] = (),
) -> Plan:
    """Raises ServeError."""
    host, port = parse_listen(listen)
    modes = tuple(modes) or ("regular",)
    given = [option.partition("=")[0] for option in options]
    if not all(name and "=" in option for name, option in zip(given, options, strict=True)):
        raise ServeError("--set: write NAME=VALUE, as --set rotate_retries=1")
    for name, flag in FLAGS.items():
        if name in given:
            raise ServeError(f"--set {name}: write {flag} instead")
    for mode in modes:
        _check_mode(mode, host, port, is_open=any(name in OPENERS for name in given))
    chosen = list(options)
    if secrets:
        chosen.append(f"rotate_secrets={secrets}")
    if confdir:
        chosen.append(f"confdir={confdir}")
    return Plan(host, port, modes, tuple(chosen))


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[V6]:PORT`, `:PORT` or `PORT`. Raises ServeError."""
    if "://" in text:
        raise ServeError(f"--listen: leave out {text.partition('://')[0]}://, write HOST:PORT")
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ServeError("--listen: write HOST:PORT, as 127.0.0.1:8080 (port 0: any free one)")
    return "127.0.0.1" if host == "localhost" else host, int(port)


def _check_mode(text: str, host: str, port: int, *, is_open: bool) -> None:
    try:
        mode = ProxyMode.parse(text)
    except ValueError as e:
        raise ServeError(f"--mode {text}: {e}") from e
    if mode.listen_port(port) is None:
        return  # local capture: nobody connects to it
    there = mode.listen_host(host)
    if not is_loopback(there) and not is_open:
        raise ServeError(
            f"--listen: {there or 'every address'} is not this machine's loopback: write "
            "127.0.0.1:PORT, or say whom you expect with --set rotate_allow_clients=NETWORK"
        )

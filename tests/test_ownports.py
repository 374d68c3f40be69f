"""Whether an address is this machine's, and which mitmproxy has its web port guarded."""

import pytest
from mitmproxy import options, version

from flowrotate.addon import FlowRotate
from flowrotate.ownports import OwnPorts, stays_here

from .test_addon import harness


@pytest.mark.parametrize(
    ("peer", "local", "here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.9.9.9", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("192.0.2.1", "127.0.0.1", True),
        ("127.0.0.1", "", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("198.51.100.1", "", False),
    ],
)
def test_a_connection_that_stays_on_this_machine(peer: str, local: str, here: bool) -> None:
    assert stays_here(peer, local) is here


@pytest.mark.parametrize(
    ("found", "mitmweb", "guarded"),
    [
        ("11.0.2", True, True),
        ("11.1.1", True, True),
        ("11.1.2", True, False),
        ("12.3.1", True, False),
        ("11.0.2", False, False),
    ],
)
def test_the_port_of_an_old_mitmweb_alone_is_guarded(
    monkeypatch: pytest.MonkeyPatch, found: str, mitmweb: bool, guarded: bool
) -> None:
    monkeypatch.setattr(version, "VERSION", found)
    if mitmweb:
        make = options.Options.__init__

        def with_web_port(self: options.Options) -> None:
            make(self)
            self.add_option("web_port", int, 8081, "")

        monkeypatch.setattr(options.Options, "__init__", with_web_port)
    made = FlowRotate()
    with harness(made):
        (part,) = (part for part in made.addons if isinstance(part, OwnPorts))
        assert part.web is guarded

"""The addon in mitmproxy's own test harness: what needs no traffic."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mitmproxy import exceptions, version
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.test import taddons

from flowrotate import wire
from flowrotate.addon import FlowRotate
from flowrotate.rotator import ROTATOR


@contextmanager
def harness(addon: FlowRotate) -> Iterator[taddons.context]:
    """mitmproxy's own, which leaves the loop open that it makes."""
    with taddons.context(addon) as context:
        try:
            yield context
        finally:
            addon.done()
            context.master.event_loop.close()


@pytest.fixture
def addon(tmp_path: Path) -> Iterator[tuple[FlowRotate, taddons.context]]:
    """Loaded with one pool; afterwards mitmproxy and ROTATOR are as they were."""
    before = ROTATOR.settings, ROTATOR.pools
    file = tmp_path / "secrets.yaml"
    file.touch(mode=0o600)
    file.write_text("hosts: [a.test]\ncredentials: [sk-canary-1, sk-canary-2]\n")
    made = FlowRotate()
    with harness(made) as context:
        context.configure(made, rotate_secrets=str(file))
        yield made, context
    ROTATOR.swap(before[0], [pool.resolved for pool in before[1].values()])


def test_the_seam_is_there_while_an_addon_is(addon: tuple[FlowRotate, object]) -> None:
    second = FlowRotate()
    assert second.name != addon[0].name
    wire.install(second)
    assert http_layer.HttpStream is wire.ScrubbingStream
    addon[0].done()
    assert http_layer.HttpStream is wire.ScrubbingStream
    wire.uninstall(second, returning=False)
    assert http_layer.HttpStream is wire.MitmproxyStream


def test_another_addon_at_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(wire.MitmproxyStream):
        pass

    monkeypatch.setattr(http_layer, "HttpStream", Other)
    with pytest.raises(RuntimeError, match="another addon has replaced"):
        wire.install(object())


@pytest.mark.parametrize(
    "option", [{"rotate_cooldown": 0}, {"rotate_fail": "x"}, {"rotate_secrets": "/absent.yaml"}]
)
def test_a_bad_value_on_a_running_proxy_is_refused_and_the_old_one_stays(
    addon: tuple[FlowRotate, taddons.context], option: dict[str, object]
) -> None:
    _, context = addon
    pool = ROTATOR.pools["default"]
    picked = pool.selector.pick(0.0)
    (name,) = option
    old = getattr(context.options, name)
    with pytest.raises(exceptions.OptionsError):
        context.options.update(**option)
    assert getattr(context.options, name) == old
    assert ROTATOR.pools["default"] is pool
    assert picked


def test_an_option_that_changes_keeps_the_pools_state(
    addon: tuple[FlowRotate, taddons.context],
) -> None:
    _, context = addon
    selector = ROTATOR.pools["default"].selector
    first = selector.pick(0.0)
    context.options.update(rotate_cooldown=7)
    assert ROTATOR.settings.cooldown == 7
    second = ROTATOR.pools["default"].selector.pick(0.0)
    assert first
    assert second
    assert (first.id, second.id) == ("default-1", "default-2")


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        ("11.0.2", True),
        ("12.2.3", True),
        ("12.3.0.dev", True),
        ("11.0.1", False),
        ("10.4.2", False),
        ("13.0.0", False),
    ],
)
def test_the_versions_of_mitmproxy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, found: str, fits: bool
) -> None:
    monkeypatch.setattr(version, "VERSION", found)
    made = FlowRotate()
    with caplog.at_level(logging.ERROR), harness(made):
        pass
    assert ("needs mitmproxy 11.0.2 to 12.x" in caplog.text) is not fits

"""The log says which pooled host was not reached, why, and what to do."""

import httpx
import pytest

from flowrotate.demo.certs import make_authority

from .world import World, pool


def test_a_certificate_that_is_not_verified(world: World) -> None:
    foreign = make_authority(world.folder / "foreign", ["localhost"])
    upstream, other = world.upstream(leaf=foreign.leaf), world.upstream(leaf=foreign.leaf)
    proxy = world.proxy(pool([f"localhost:{upstream.port}"]))
    client = world.client(proxy)
    assert client.get(upstream.url()).status_code == 502
    found = proxy.wait_for(rf"localhost:{upstream.port}, of a pool: (.*); no request goes there")
    assert "ertificate verify failed" in found[1]
    assert "--set ssl_verify_upstream_trusted_ca=FILE" in proxy.text
    # What is in no pool is mitmproxy's to tell.
    assert client.get(other.url()).status_code == 502
    assert f"localhost:{other.port}, of a pool" not in proxy.text
    assert upstream.requests == []


@pytest.mark.parametrize("tls", [True, False])
def test_a_host_that_does_not_listen(world: World, tls: bool) -> None:
    proxy = world.proxy(pool(["localhost:1", "http://localhost:1"]))
    client = world.client(proxy)
    if tls:
        with pytest.raises(httpx.ProxyError):
            client.get("https://localhost:1/")
    else:
        assert client.get("http://localhost:1/").status_code == 502
    proxy.wait_for(r"localhost:1, of a pool: .*; is the name right")

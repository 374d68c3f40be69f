"""The proxy auto-configuration script: pooled hosts to the proxy, all else DIRECT. Pure.

`FindProxyForURL(url, host)`, as browsers and desktops read it (Netscape's format; MDN, "Proxy
Auto-Configuration (PAC) file"). For https they leave the path out of `url`, and keep the port.
"""

import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from flowrotate.hosts import HostRule

MEDIA_TYPE = "application/x-ns-proxy-autoconfig"

_SCRIPT = """\
// Flow Rotate: the hosts of its pools go to the proxy, everything else goes where it always did,
// and so does everything when the proxy is down.
var rules = {
%s
};
var ports = {http: 80, ws: 80, https: 443, wss: 443};

function FindProxyForURL(url, host) {
  var parts = /^([a-z]+):\\/\\/([^\\/?#@]*@)?(\\[[^\\]]*\\]|[^\\/?#:]*)(:([0-9]+))?/i.exec(url);
  var scheme = parts ? parts[1].toLowerCase() : "";
  if (!ports.hasOwnProperty(scheme)) return "DIRECT";
  var tls = scheme === "https" || scheme === "wss" ? "s" : "p";
  var port = parts[5] ? Number(parts[5]) : ports[scheme];
  var name = host.toLowerCase().replace(/^\\[|\\]$/g, "").replace(/\\.$/, "");
  if (fits(tls + "=" + name, port)) return %s;
  for (var at = name.indexOf("."); at >= 0; at = name.indexOf(".", at + 1)) {
    if (fits(tls + "*" + name.substring(at), port)) return %s;
  }
  return "DIRECT";
}

// A rule's ports; 0 is any.
function fits(key, port) {
  var found = rules.hasOwnProperty(key) ? rules[key] : [];
  for (var n = 0; n < found.length; n++) {
    if (found[n] === port || found[n] === 0) return true;
  }
  return false;
}
"""


def pac(rules: Iterable[HostRule], proxy: str) -> str:
    """The script, ASCII. `proxy` is the URL of an HTTP proxy."""
    ports: dict[str, list[int]] = {}
    for rule in rules:
        key = f"{'s' if rule.tls else 'p'}{'*.' if rule.wildcard else '='}{rule.name}"
        ports.setdefault(key, []).append(rule.port or 0)
    lines = [f"  {json.dumps(key)}: {sorted(set(ports[key]))}" for key in sorted(ports)]
    via = json.dumps(f"PROXY {urlsplit(proxy).netloc}; DIRECT")
    return _SCRIPT % (",\n".join(lines), via, via)

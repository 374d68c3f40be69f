"""KDE's settings files: a key set, and every other byte as it was."""

import pytest

from flowrotate.machine.system.groups import get_key, same_settings, set_key

KEY, SCRIPT = "ProxyType", "Proxy Config Script"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("[Proxy Settings]\nProxyType=1\n", "1"),
        ("[Proxy Settings]\nProxyType=\n", ""),
        ("[Proxy Settings]\r\nProxyType = 1 \r\n", "1"),
        ("[Proxy Settings]\nProxyType[$e]=1", "1"),
        ("[Proxy Settings]\n#ProxyType=1\n", None),
        ("[Proxy Settings]\nnoProxyType=1\n", None),
        ("[Other]\nProxyType=1\n", None),
        ("ProxyType=1\n[Proxy Settings]\n", None),
        ("[Proxy Settings]\n[Other]\nProxyType=1\n", None),
        ("[Proxy Settings]\nProxyType=1\nProxyType=2\n", "2"),
        ("[Proxy Settings]\nx=a\u2028ProxyType=1\n", None),
        ("[ Proxy Settings ]\nProxyType=1\n", None),
    ],
)
def test_get_key(text: str, value: str | None) -> None:
    assert get_key(text, KEY) == value


@pytest.mark.parametrize(
    ("text", "value", "after"),
    [
        ("", "2", "[Proxy Settings]\nProxyType=2\n"),
        ("[A]\nb=c\n", "2", "[A]\nb=c\n[Proxy Settings]\nProxyType=2\n"),
        ("[A]\nb=c", "2", "[A]\nb=c\n[Proxy Settings]\nProxyType=2\n"),
        ("[A]\r\nb=c\r\n", "2", "[A]\r\nb=c\r\n[Proxy Settings]\r\nProxyType=2\r\n"),
        ("[Proxy Settings]\n# x\n", "2", "[Proxy Settings]\nProxyType=2\n# x\n"),
        ("[Proxy Settings]", "2", "[Proxy Settings]\nProxyType=2\n"),
        ("[Proxy Settings]\nProxyType=1\nx=y\n", "2", "[Proxy Settings]\nProxyType=2\nx=y\n"),
        ("[Proxy Settings]\r\nProxyType=1\r\n", "2", "[Proxy Settings]\r\nProxyType=2\r\n"),
        ("[Proxy Settings]\nProxyType[$e]=1", "2", "[Proxy Settings]\nProxyType[$e]=2"),
        ("[Proxy Settings]\nProxyType=1=0\n", r"\1", "[Proxy Settings]\nProxyType=\\1\n"),
        ("[A]\nProxyType=1\n[Proxy Settings]\n", "2", None),
        ("[Proxy Settings]\nProxyType=1\nx=y\n", None, "[Proxy Settings]\nx=y\n"),
        ("[Proxy Settings]\nx=y\n", None, "[Proxy Settings]\nx=y\n"),
    ],
)
def test_set_key(text: str, value: str | None, after: str | None) -> None:
    found = set_key(text, KEY, value)
    assert found == (after or "[A]\nProxyType=1\n[Proxy Settings]\nProxyType=2\n")
    assert get_key(found, KEY) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# mine\n",
        "[A]\nb=c",
        "[A]\nb=c\n\n\n",
        "[A]\r\nb=c",
        "[Proxy Settings]\n",
        "[Proxy Settings]\n\n[A]\nb=c\n",
        "[A]\n[Proxy Settings]\nReversedException=true\n# end\n[B]\n",
        "\ufeff[A]\nb=\udcff\u2028c\x0b\n",
    ],
)
def test_a_key_set_and_taken_out_leaves_the_same_settings(text: str) -> None:
    changed = set_key(set_key(text, SCRIPT, "http://127.0.0.1:1/proxy.pac"), KEY, "2")
    assert not same_settings(changed, text)
    back = set_key(set_key(changed, KEY, None), SCRIPT, None)
    assert same_settings(back, text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("", "", True),
        ("", "[A]\n\n", True),
        ("[A]\nb=c", "[A]\nb=c\n[Proxy Settings]\n", True),
        ("[A]\nb=c\n", "[A]\nb=d\n", False),
        ("[A]\nb=c\n", "[B]\nb=c\n", False),
        ("# a\n", "", False),
        ("[A]\n[B]\nb=c\n", "[B]\nb=c\n", True),
    ],
)
def test_same_settings(one: str, other: str, same: bool) -> None:
    assert same_settings(one, other) is same

import copy
import pickle

import pytest

from flowrotate.secret import Secret

CANARY = "sk-canary-5f2a"
ALIAS = "[rotate:pool/a]"


@pytest.mark.parametrize(
    "shown",
    [
        str(Secret(CANARY, ALIAS)),
        repr(Secret(CANARY, ALIAS)),
        f"{Secret(CANARY, ALIAS)}",
        f"{Secret(CANARY, ALIAS)!s}",
        f"{Secret(CANARY, ALIAS):>40}",
        f"{Secret(CANARY, ALIAS):d}",
        "%s" % Secret(CANARY, ALIAS),  # noqa: UP031  # how loggers do it
        "%r" % Secret(CANARY, ALIAS),  # noqa: UP031
        format(Secret(CANARY, ALIAS), ".3"),
        Secret(CANARY, ALIAS).alias,
    ],
)
def test_shows_its_alias_only(shown: str) -> None:
    assert shown == ALIAS


def test_a_container_shows_the_alias() -> None:
    assert str([Secret(CANARY, ALIAS)]) == f"[{ALIAS}]"


def test_reveals_its_text() -> None:
    assert Secret(CANARY, ALIAS).reveal() == CANARY


@pytest.mark.parametrize("text", [CANARY, "pässwort", "\udcff"])
def test_equal_by_text_alone(text: str) -> None:
    assert Secret(text, "a") == Secret(text, "b")
    assert len({Secret(text, "a"), Secret(text, "b")}) == 1
    assert Secret(text, "a") != Secret(text + "x", "a")
    assert Secret(text, "a") != text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not copied or pickled"):
        pickle.dumps(Secret(CANARY, ALIAS), protocol)


def test_is_not_copied() -> None:
    secret = Secret(CANARY, ALIAS)
    with pytest.raises(TypeError, match="not copied or pickled"):
        copy.copy(secret)
    assert copy.deepcopy([secret])[0] is secret


def test_has_no_dictionary_to_look_into() -> None:
    assert not hasattr(Secret(CANARY, ALIAS), "__dict__")

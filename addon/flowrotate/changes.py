"""What a reload changed, in a line: credentials that came, went and changed. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .config.spec import CredentialSpec
from .rotator import Pool
from .secret import Secret
from .sources.resolve import ResolvedPool


def describe(before: Mapping[str, Pool], after: Sequence[ResolvedPool]) -> str:
    """`+1 −1 ~2`: credentials that came, went and changed; and the pools that changed."""
    old = {c.alias: (c, member) for pool in before.values() for c, member in _members(pool)}
    new = {c.alias: (c, secret) for pool in after for c, secret in _entries(pool)}
    changed = [
        alias
        for alias, (spec, identity) in new.items()
        if alias in old and _differs(old[alias], spec, identity)
    ]
    came, gone = len(new.keys() - old.keys()), len(old.keys() - new.keys())
    others = [
        pool.spec.name for pool in after if _own_keys_differ(before.get(pool.spec.name), pool)
    ]
    counts = f"+{came} −{gone} ~{len(changed)}" if came or gone or changed else ""
    pools = f"pools changed: {', '.join(others)}" if others else ""
    return ", ".join(filter(None, (counts, pools))) or "nothing changed"


def _members(pool: Pool) -> list[tuple[CredentialSpec, tuple[Secret, ...]]]:
    identities = pool.selector.identities()
    return [(c, identities.get(c.id, ())) for c in pool.resolved.spec.credentials]


def _entries(pool: ResolvedPool) -> list[tuple[CredentialSpec, Secret]]:
    return [
        (c, secret if isinstance(secret, Secret) else secret.identity)
        for c, secret in zip(pool.spec.credentials, pool.secrets, strict=True)
    ]


def _differs(
    old: tuple[CredentialSpec, tuple[Secret, ...]], spec: CredentialSpec, identity: Secret
) -> bool:
    was, identities = old
    # Where it stands, and where its secret comes from, is nobody's business.
    return identity not in identities or replace(was, place="", source=spec.source) != replace(
        spec, place=""
    )


def _own_keys_differ(before: Pool | None, after: ResolvedPool) -> bool:
    """Whether a pool that was there differs in anything but its credentials."""
    if before is None:
        return False
    was = replace(before.resolved.spec, credentials=(), place="")
    return was != replace(after.spec, credentials=(), place="")

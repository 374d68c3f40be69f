"""All secrets that a secrets file refers to, from variables, files, commands and keyring. IO."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flowrotate.config.section import Problem
from flowrotate.config.sourcespecs import check_key, check_part, split_command
from flowrotate.config.spec import CredentialSpec, JwtSpec, OAuth2Spec, Source, SourceKind
from flowrotate.inject import Inject, check_secret
from flowrotate.secret import Secret

from .commands import Command, Ran, run_all
from .files import UnreadableError, one_text, path_in, text_in
from .keyrings import read_entries
from .lastwords import explain, shell_hint

Commands = dict[Command, Secret]
"""What commands printed, to spare them a second run."""

_Got = Secret | UnreadableError | Ran
"""A part's text, or why there is none; the run when a command failed."""

_NOT_SET = "this environment variable is not set, or empty: set it"
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One secret that a credential needs. `check` says what is wrong with its text."""

    place: str
    alias: str
    source: Source
    check: Callable[[str, str], str | None]


def parts_of(credential: CredentialSpec, inject: Inject) -> Iterator[Part]:
    source, place, alias = credential.source, credential.place, credential.alias
    match source:
        case Source():
            yield Part(place, alias, source, lambda text, alias: check_secret(text, inject, alias))
        case JwtSpec(key=key):
            yield Part(f"{place}.jwt.key", alias, key, check_key)
        case OAuth2Spec():
            place = f"{place}.oauth2"
            if source.client_secret:
                yield Part(f"{place}.client_secret", alias, source.client_secret, check_part)
            if source.refresh_token:
                yield Part(f"{place}.refresh_token", alias, source.refresh_token, check_part)


def names(parts: Iterable[Part], kind: SourceKind) -> list[str]:
    """What the sources of a kind are told by, each once."""
    named = (p.source.value for p in parts if p.source.kind == kind)
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def gather(
    parts: Sequence[Part],
    folder: Path,
    env: Mapping[str, str],
    commands: Commands,
    problems: list[Problem],
) -> dict[str, Secret]:
    """Secrets by their part's place, without those that cannot be had or used: problems."""
    named = {split_command(text) for text in names(parts, "command")}
    for gone in commands.keys() - named:
        del commands[gone]
    wanted = named - commands.keys()
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(read_entries, names(parts, "keyring"))
        ran = {command: _printed(ran) for command, ran in run_all(wanted, folder, env).items()}
        entries = asked.result()
    commands.update({command: out for command, out in ran.items() if isinstance(out, Secret)})
    outputs = {**ran, **commands}
    found = [(part, _read(part, folder, env, entries, outputs)) for part in parts]
    known = [*_known(found), *_secrets_in(env)]
    secrets: dict[str, Secret] = {}
    for part, got in found:
        fault = _fault(part, got, known)
        if fault:
            problems.append(Problem(_place(part), fault))
        elif isinstance(got, Secret):
            secrets[part.place] = got
    return secrets


def _printed(ran: Ran) -> _Got:
    """What a command gave; itself when it failed, for what it said cannot be told yet."""
    if ran.fault:
        return UnreadableError(ran.fault)
    if ran.status:
        return ran
    text = one_text(ran.out)
    if text is None:
        return UnreadableError("it printed no UTF-8 text: make it print the secret alone")
    return Secret(text, "") if text else UnreadableError("it printed nothing: run it by hand")


def _read(
    part: Part,
    folder: Path,
    env: Mapping[str, str],
    entries: Mapping[str, str | UnreadableError],
    outputs: Mapping[Command, _Got],
) -> _Got:
    value = part.source.value
    if isinstance(value, Secret):
        return value
    got: str | _Got
    match part.source.kind:
        case "env":
            got = env.get(value) or UnreadableError(_NOT_SET)
        case "keyring":
            got = entries[value]
        case "command":
            out = outputs[split_command(value)]
            got = out.reveal() if isinstance(out, Secret) else out
        case _:
            try:
                got = text_in(path_in(folder, value))
            except UnreadableError as e:
                got = e
    return Secret(got, part.alias) if isinstance(got, str) else got


def _known(found: Iterable[tuple[Part, _Got]]) -> Iterator[Secret]:
    """Every secret of a file, and what its failed commands printed."""
    for part, got in found:
        if isinstance(got, Ran):
            yield Secret(got.out.decode("utf-8", "replace"), part.alias)
        elif isinstance(got, Secret):
            yield got


def _secrets_in(env: Mapping[str, str]) -> Iterator[Secret]:
    """What else a command may know, by the variables' names."""
    for name, value in env.items():
        if value and _SECRET_NAME.search(name):
            yield Secret(value, "[environment]")


def _fault(part: Part, got: _Got, known: Sequence[Secret]) -> str | None:
    fault = _what_is_wrong(part, got, known)
    if fault and part.source.kind == "command":
        return fault + shell_hint(str(part.source.value))
    return fault


def _what_is_wrong(part: Part, got: _Got, known: Sequence[Secret]) -> str | None:
    if isinstance(got, Ran):
        command = split_command(str(part.source.value))
        return explain(got.status, got.err, command, known)
    if isinstance(got, UnreadableError):
        return str(got)
    return part.check(got.reveal(), part.alias)


def _place(part: Part) -> str:
    kind = part.source.kind
    return part.place if kind == "secret" else f"{part.place}.{kind}"

"""What became of an attempt: the verdict on its answer, for the selector and in the flow."""

import logging
from email.utils import formatdate

from mitmproxy import http

from .answers import Answer
from .display import annotate, tell
from .mint.tokens import MintError, NotYetError
from .passage import Passage
from .rotator import ROTATOR
from .selector.standing import show_scope
from .times import http_date, number_of
from .unpack import start_of
from .verdict import Action, Verdict, judge, needs_body

logger = logging.getLogger(__name__)

ALL_SCOPES = ("billing", "mint")
"""Reasons that hold for all requests, whatever their value of `cooldown_by`."""
NOT_YET = 10.0
"""Seconds until a credential is picked again whose token was not there in time."""
RENEW = Verdict(Action.NOTHING, reason="mint anew")


def must_read(passage: Passage, response: http.Response) -> bool:
    """Whether the answer's body may say more of its credential than its head does."""
    return needs_body(response.status_code, passage.pool.rules(ROTATOR.settings))


def learn(
    flow: http.HTTPFlow,
    passage: Passage,
    response: http.Response,
    body: bytes = b"",
    *,
    repeatable: bool,
) -> bool:
    """Take in what the answer says of the credential, and whether another attempt is worth it.

    `body` is the start of it, as it came.
    """
    pool, credential, settings = passage.pool, passage.credential, ROTATOR.settings
    assert credential
    now, status = ROTATOR.clock(), response.status_code
    verdict = _verdict(passage, response, body, repeatable=repeatable)
    failed = verdict.action in (Action.COOLDOWN, Action.DISABLE)
    scope, cooling = _scope(passage, verdict), 0.0
    if not passage.renewing:  # else it is not over yet: a trial goes on
        cooling = pool.selector.report(credential, verdict, status, now, scope)
    if failed or passage.renewing or status == 101:
        # Nothing more of it is awaited; the socket that a 101 leads to is left alone.
        passage.release()
    asked = plain_retry_after(response.headers.get("retry-after", "")) if failed else None
    _record(flow, passage, status, verdict, cooling, asked)
    if failed:
        logger.warning("pool %s: %s", pool.name, passage.told[-1])
    if passage.renewing:
        return True
    passage.spent += 1
    may_wait = now < passage.deadline if passage.deadline else pool.hold(settings) > 0
    return (
        failed
        and repeatable
        and passage.spent <= pool.retries(settings)
        and pool.selector.has_other(now, passage.tried, waiting=may_wait, scope=scope)
    )


def _verdict(
    passage: Passage, response: http.Response, body: bytes, *, repeatable: bool
) -> Verdict:
    pool, settings, headers = passage.pool, ROTATOR.settings, response.headers
    start = start_of(body, headers.get("content-encoding", "")) if body else b""
    answer = Answer(response.status_code, headers, start, ROTATOR.wall())
    verdict = judge(answer, pool.rules(settings), pool.cooldown(settings))
    assert passage.credential
    minted = passage.credential.minter is not None
    return _of_minted(passage, verdict, repeatable=repeatable) if minted else verdict


def _scope(passage: Passage, verdict: Verdict) -> str | None:
    """For which requests a verdict holds: those of this value of `cooldown_by`; None is all."""
    return passage.wish.scope if passage.wish and verdict.reason not in ALL_SCOPES else None


def _of_minted(passage: Passage, verdict: Verdict, *, repeatable: bool) -> Verdict:
    """A 401 may mean that the token alone was at fault: then a new one is worth one more try."""
    credential, token = passage.credential, passage.token
    assert credential
    assert credential.minter
    assert token
    if verdict.action is Action.OK:
        credential.minter.accept(token)
    failed = verdict.action in (Action.COOLDOWN, Action.DISABLE)
    if not failed or verdict.reason != "401":
        return verdict
    if not credential.minter.refuse(token) or credential in passage.renewed:
        return verdict
    if repeatable:
        passage.renewing = credential
        passage.renewed.append(credential)
    return RENEW


def not_minted(flow: http.HTTPFlow, passage: Passage, why: MintError) -> None:
    """There is no token to send: the credential cools, and says nothing to its upstream."""
    pool, credential = passage.pool, passage.credential
    assert credential
    verdict = Verdict(Action.COOLDOWN, pool.cooldown(ROTATOR.settings), "mint", backoff=True)
    if isinstance(why, NotYetError):
        verdict = Verdict(Action.COOLDOWN, NOT_YET, "mint")
    # For all requests, whatever their scope: there is no token for any of them.
    cooling = pool.selector.report(credential, verdict, None, ROTATOR.clock())
    passage.release()
    _record(flow, passage, None, verdict, cooling, None, because=str(why))
    logger.warning("pool %s: %s", pool.name, passage.told[-1])


def unanswered(flow: http.HTTPFlow, passage: Passage) -> None:
    """The attempt broke off before there was an answer: that says nothing of the credential."""
    passage.spent += 1
    assert passage.credential
    nothing = Verdict(Action.NOTHING)
    passage.pool.selector.report(passage.credential, nothing, None, ROTATOR.clock())
    _record(flow, passage, None, nothing, 0.0, None)


def _record(
    flow: http.HTTPFlow,
    passage: Passage,
    status: int | None,
    verdict: Verdict,
    cooling: float,
    retry_after: str | None,
    because: str = "",
) -> None:
    assert passage.credential
    id, seconds = passage.credential.id, ROTATOR.clock() - passage.started
    attempt: dict[str, object] = {
        "credential": id,
        "status": status,
        "verdict": verdict.action.value,
        "seconds": round(seconds, 6),
        "at": round(ROTATOR.wall() - seconds, 3),
    }
    if verdict.reason not in ("", str(status)):
        attempt["reason"] = verdict.reason
    if retry_after is not None:
        attempt["retry_after"] = retry_after
    passage.attempts.append(attempt)
    said = _in_words(id, status, verdict, because)
    if cooling and verdict.action is not Action.NOTHING:
        scope = _scope(passage, verdict)
        until = "the last for" if verdict.action is Action.OK else "cooling for"
        said += f", {until} {cooling:.0f} s" + (f" for {show_scope(scope)}" if scope else "")
    passage.told.append(said)
    annotate(flow, passage.pool, id, passage.attempts)
    tell(flow, "; ".join(passage.told), passage.mark)


def _in_words(id: str, status: int | None, verdict: Verdict, because: str) -> str:
    if verdict.reason == "mint":
        return f"{id} could not be minted ({because})"
    said = f"{id} answered {status}" if status else f"{id} got no answer"
    if verdict.action is Action.DISABLE:
        return f"{said}, disabled"
    if verdict is RENEW:
        return f"{said}, its token is minted anew"
    return f"{said} ({verdict.reason})" if verdict.reason in ("billing", "quota") else said


def plain_retry_after(value: str) -> str | None:
    """A Retry-After as it may be shown: an upstream could echo anything there."""
    value = value.strip()
    if number_of(value) is not None:
        return value
    date = http_date(value)
    # Some years can be read, but not written again.
    return formatdate(date, usegmt=True) if date is not None and 0 <= date < 1e11 else None


def expose(passage: Passage, response: http.Response, served: int = -1) -> None:
    """With `rotate_expose`, say in the response itself whose it is: that of attempt `served`."""
    if not (ROTATOR.settings.expose and passage.attempts):
        return
    exposed = {
        "X-Rotate-Credential": f"{passage.pool.name}/{passage.attempts[served]['credential']}",
        "X-Rotate-Attempts": str(len(passage.attempts)),
    }
    for name, value in exposed.items():
        response.headers[name.lower() if response.is_http2 else name] = value

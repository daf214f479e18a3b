"""Credentials that are refused, and pools of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from proxy_core import (
    CHAT,
    Call,
    CredentialChanged,
    CredentialLoan,
    CredentialPool,
    CredentialQuarantine,
    HttpRequest,
    QuarantineSettings,
    Secret,
    create_provider,
)
from proxy_core.errors import (
    ConfigurationError,
    ConnectFailed,
    UpstreamError,
    UpstreamFailed,
    UpstreamModelMissing,
    UpstreamRefusedCredential,
    UpstreamRejected,
    UpstreamThrottled,
)
from proxy_core.testing import Answer, FakeHttp, ManualClock
from proxy_logging import Event

REFUSED = UpstreamRefusedCredential("refused (401)", upstream_status=401)
NO_MONEY = UpstreamRefusedCredential(
    "refused (429)", upstream_status=429, upstream_code="insufficient_quota"
)
FORBIDDEN = UpstreamRefusedCredential(
    "refused (403)", upstream_status=403, upstream_code="permission_error"
)
CALL = CHAT.read(b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}')


class Ward:
    """A quarantine with a clock and its events."""

    def __init__(self, **settings: float) -> None:
        self.clock = ManualClock()
        self.events: list[Event] = []
        self.quarantine = CredentialQuarantine(
            "openai/1a2b",
            QuarantineSettings(**settings),  # type: ignore[arg-type]
            clock=self.clock,
            observer=self.events.append,
        )

    def refuse(self, failure: BaseException = REFUSED) -> None:
        ticket = self.quarantine.enter()
        assert ticket
        self.quarantine.failed(ticket, failure)


@pytest.mark.parametrize("failure", [REFUSED, NO_MONEY])
def test_a_refused_credential_is_out_for_long(failure: UpstreamRefusedCredential) -> None:
    """A 401, or an account without money: nobody asks with it for five minutes."""
    ward = Ward()
    ward.refuse(failure)
    assert ward.quarantine.is_out
    assert ward.quarantine.reason == failure.message
    assert ward.quarantine.wait == pytest.approx(300.0)
    ward.clock.advance(299.9)
    assert not ward.quarantine.enter()


def test_a_403_may_be_about_one_model() -> None:
    """Three in a row are about the credential; a success between them begins anew."""
    ward = Ward()
    for _ in range(2):
        ward.refuse(FORBIDDEN)
        ward.refuse(FORBIDDEN)
        ward.quarantine.succeeded(ward.quarantine.enter())
    assert not ward.quarantine.is_out
    for _ in range(3):
        ward.refuse(FORBIDDEN)
    assert ward.quarantine.is_out


def test_when_its_time_is_over_one_call_probes() -> None:
    """Of a hundred that ask, one may; each refusal doubles the time, up to an hour."""
    ward = Ward()
    ward.refuse()
    for expected in (300, 600, 1200, 2400, 3600, 3600):
        assert ward.quarantine.wait == pytest.approx(expected)
        ward.clock.advance(expected)
        tickets = [ward.quarantine.enter() for _ in range(100)]
        (probe,) = filter(None, tickets)
        ward.quarantine.failed(probe, REFUSED)


def test_a_probe_that_is_taken_ends_it() -> None:
    """The credential is used again, as on the first day; both changes are told."""
    ward = Ward()
    ward.refuse()
    ward.clock.advance(300.0)
    ward.quarantine.succeeded(ward.quarantine.enter())
    assert not ward.quarantine.is_out
    ward.refuse()
    assert ward.quarantine.wait == pytest.approx(300.0)
    told = [event.after for event in ward.events if isinstance(event, CredentialChanged)]
    assert told == ["quarantined", "usable", "quarantined"]


@pytest.mark.parametrize("failure", [UpstreamRejected("400"), UpstreamThrottled("429")])
def test_who_reads_the_request_has_taken_the_credential(failure: Exception) -> None:
    """A refused request, and a plain 429, end a quarantine as a success does."""
    ward = Ward()
    ward.refuse()
    ward.clock.advance(300.0)
    ward.refuse(failure)
    assert not ward.quarantine.is_out


def test_what_was_asked_before_says_nothing() -> None:
    """Ten calls that were under way when it went out don't make it ten times as long."""
    ward = Ward()
    tickets = [ward.quarantine.enter() for _ in range(10)]
    for ticket in tickets[:9]:
        ward.quarantine.failed(ticket, REFUSED)
    assert ward.quarantine.wait == pytest.approx(300.0)
    ward.quarantine.succeeded(tickets[9])
    assert ward.quarantine.is_out


def test_a_cancelled_probe_makes_room_a_failed_one_waits() -> None:
    """A client that leaves gives the probe back; a sick upstream is probed a minute later."""
    ward = Ward()
    ward.refuse()
    ward.clock.advance(300.0)
    for _ in range(1000):
        ward.refuse(asyncio.CancelledError())
    ward.refuse(UpstreamFailed("500"))
    assert ward.quarantine.is_out
    assert ward.quarantine.wait == pytest.approx(60.0)


def test_a_changed_key_is_used_at_once() -> None:
    """``reset`` takes it out of quarantine."""
    ward = Ward()
    ward.refuse()
    ward.quarantine.reset("the key was changed")
    assert ward.quarantine.enter()
    assert ward.quarantine.wait == 0


@pytest.mark.parametrize("field", ["first", "cap", "lease", "forbidden"])
def test_settings_that_cannot_be_are_refused(field: str) -> None:
    """The error names the field and the value."""
    with pytest.raises(ConfigurationError, match=field):
        QuarantineSettings(**{field: 0})


class House:
    """A pool of three keys with a clock."""

    def __init__(self, keys: int = 3) -> None:
        self.clock = ManualClock()
        secrets = [Secret(f"sk-{number}") for number in range(keys)]
        self.pool = CredentialPool("openai", secrets, clock=self.clock)

    def take(self, model: str = "gpt") -> CredentialLoan:
        return self.pool.take(model)

    def used(self, count: int, model: str = "gpt") -> list[int]:
        """Which credentials so many calls use, one after another."""
        numbers = []
        for _ in range(count):
            with self.take(model) as loan:
                numbers.append(loan.number)
        return numbers


def remaining(requests: int, of: int = 100) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit-requests", b"%d" % of),
        (b"x-ratelimit-remaining-requests", b"%d" % requests),
        (b"x-ratelimit-reset-requests", b"60s"),
    ]


def test_credentials_take_turns() -> None:
    """Nothing is known of them, so each gets the same."""
    house = House()
    assert house.used(6) == [0, 1, 2, 0, 1, 2]
    assert house.take().secret == Secret("sk-0")
    assert len(house.pool) == 3


def test_the_one_with_most_room_is_next() -> None:
    """By what the last headers told, and what has gone out since."""
    house = House()
    for room in (50, 53, 20):
        house.take().answered(remaining(room))
    assert [house.take().number for _ in range(5)] == [1, 1, 1, 0, 1]


def test_a_throttled_credential_rests_and_the_others_go_on() -> None:
    """It is not asked before its time, for that model; other models may."""
    house = House(2)
    house.take().failed(UpstreamThrottled("429", retry_after=30.0))
    assert house.used(3) == [1, 1, 1]
    assert 0 in house.used(2, "another")
    house.clock.advance(29.9)
    assert house.used(2) == [1, 1]
    house.clock.advance(0.1)
    assert house.used(2) == [0, 1]


@pytest.mark.parametrize("status", [503, 529])
def test_an_overloaded_upstream_that_says_when_is_heeded(status: int) -> None:
    """With Retry-After it is a throttle of that credential; without one it isn't."""
    house = House(2)
    house.take().failed(UpstreamFailed("overloaded", upstream_status=status, retry_after=5.0))
    house.take().failed(UpstreamFailed("overloaded", upstream_status=status))
    assert house.used(3) == [1, 1, 1]


def test_the_headers_of_a_refusal_are_read_too() -> None:
    """A 429 without Retry-After whose headers say that nothing is left for 60 s: 3 s for 5 %."""
    house = House(2)
    house.take().failed(UpstreamThrottled("429"), remaining(0))
    assert house.pool.gate(0, "gpt").wait == pytest.approx(3.0)


def test_when_all_wait_it_says_until_when() -> None:
    """The first that is free again gives the time."""
    house = House()
    for wait in (30.0, 7.0, 20.0):
        house.take().failed(UpstreamThrottled("429", retry_after=wait))
    with pytest.raises(UpstreamThrottled, match="'openai' throttles each") as refused:
        house.take()
    assert refused.value.retry_after == pytest.approx(7.0)
    assert refused.value.deployment == "openai/gpt"
    assert house.pool.retry_after("gpt") == pytest.approx(7.0)
    house.clock.advance(7.0)
    assert house.used(2) == [1, 1]


def test_a_refused_credential_is_out_for_each_model() -> None:
    """Quarantine is the credential's, not the model's."""
    house = House(2)
    house.take("a").failed(REFUSED)
    assert house.used(2, "b") == [1, 1]
    house.take("b").failed(REFUSED)
    with pytest.raises(UpstreamRefusedCredential, match="refused each credential of 'openai'"):
        house.take("c")
    house.clock.advance(300.0)
    assert sorted(house.take("c").number for _ in range(2)) == [0, 1]
    with pytest.raises(UpstreamRefusedCredential):
        house.take("c")


def test_one_out_and_one_throttled_is_a_throttle() -> None:
    """Waiting helps, so that is what is said."""
    house = House(2)
    house.take().failed(REFUSED)
    house.take().failed(UpstreamThrottled("429", retry_after=9.0))
    with pytest.raises(UpstreamThrottled) as refused:
        house.take()
    assert refused.value.retry_after == pytest.approx(9.0)


def test_a_block_reports_how_it_ended() -> None:
    """What it raises is heard; other failures and cancellations take no credential out."""
    house = House(1)
    for failure in (ConnectFailed("down"), asyncio.CancelledError(), UpstreamFailed("500")):
        with pytest.raises(type(failure)), house.take():
            raise failure
    with pytest.raises(UpstreamThrottled), house.take():
        raise UpstreamThrottled("429", retry_after=3.0)
    assert house.pool.retry_after("gpt") == pytest.approx(3.0)


def test_a_loan_reports_once() -> None:
    """What was said first holds; the end of the block adds nothing."""
    house = House(1)
    with pytest.raises(UpstreamThrottled), house.take() as loan:
        loan.answered()
        raise UpstreamThrottled("in the stream", retry_after=3.0)
    assert house.pool.retry_after("gpt") == 0


def test_names_of_models_do_not_fill_the_memory() -> None:
    """Of ten thousand models that nobody waits for, few are remembered."""
    house = House(2)
    house.take("busy").failed(UpstreamThrottled("429", retry_after=60.0))
    for number in range(10_000):
        house.take(f"model-{number}").answered(remaining(50))
    assert len(house.pool._gates) < 5_000
    assert house.pool.gate(0, "busy").wait == pytest.approx(60.0)


def test_what_one_request_has_tried_it_isnt_given_again() -> None:
    """A 403 for a model leaves the credential in use; the same request goes on to the others."""
    house = House()
    tried: list[int] = []
    while house.pool.retry_after("gpt", tried) == 0:
        loan = house.pool.take("gpt", tried)
        loan.failed(FORBIDDEN)
        tried.append(loan.number)
    assert tried == [0, 1, 2]
    assert house.pool.retry_after("gpt") == 0
    assert house.used(3) == [0, 1, 2]


def test_a_pool_has_credentials() -> None:
    """None at all is the operator's mistake, and no secret is in a name."""
    with pytest.raises(ConfigurationError, match="'openai' has no credentials"):
        CredentialPool("openai", [])
    house = House(1)
    names = [house.pool.quarantines[0].name, house.pool.gate(0).name, repr(house.take().secret)]
    assert "sk-0" not in "".join(names)


FORBIDS = {
    # https://platform.openai.com/docs/guides/error-codes
    "openai": (
        {
            "error": {
                "message": "Project `proj_1` does not have access to model `denied`",
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            }
        },
        "",
    ),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
    "bedrock": (
        {"message": "You don't have access to the model with the specified model ID."},
        "AccessDeniedException",
    ),
    # https://console.groq.com/docs/model-permissions
    "groq": (
        {
            "error": {
                "message": "The model `denied` is blocked at the project level.",
                "type": "permissions_error",
                "code": "model_permission_blocked_project",
            }
        },
        "",
    ),
    # https://ai.google.dev/gemini-api/docs/troubleshooting
    "gemini": (
        {
            "error": {
                "code": 403,
                "message": "The caller does not have permission",
                "status": "PERMISSION_DENIED",
            }
        },
        "",
    ),
    "anthropic": (
        {"type": "error", "error": {"type": "permission_error", "message": "not this model"}},
        "",
    ),
}


class Account:
    """A provider with some credentials, whose upstream has a 403 for the model ``denied``."""

    def __init__(self, kind: str, *keys: str) -> None:
        body, amazons = FORBIDS[kind]
        headers = [(b"content-type", b"application/json")]
        if amazons:
            headers.append((b"x-amzn-errortype", amazons.encode()))

        def answer(request: HttpRequest) -> Answer:
            is_denied = b"denied" in request.url.encode() + (request.body or b"")
            return (403, headers, [json.dumps(body).encode()]) if is_denied else (500, [], [])

        self.http = FakeHttp(answer)
        region: dict[str, Any] = {"region": "eu-central-1"} if kind == "bedrock" else {}
        self.provider: Any = create_provider(
            kind, api_key=list(keys or ("k-0123",)), http=self.http, **region
        )

    async def outcome(self, model: str) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            async with self.provider.send(CALL, model=model):
                pass
        return caught.value


@pytest.mark.parametrize("kind", ["openai", "bedrock", "groq"])
async def test_a_model_that_an_account_lacks_takes_no_other_model_away(kind: str) -> None:
    """However often it is asked for, it is this model that is missing: the next one is asked."""
    account = Account(kind)
    for _ in range(5):
        failure = await account.outcome("denied")
        assert type(failure) is UpstreamModelMissing
        assert (failure.upstream_status, failure.verdict) == (403, "let_go")
    assert type(await account.outcome("granted")) is UpstreamFailed
    assert len(account.http.requests) == 6


@pytest.mark.parametrize("kind", ["gemini", "anthropic"])
async def test_a_403_that_may_mean_anything_counts_when_it_is_the_third(kind: str) -> None:
    """Two in a row leave the credential to other models, three don't."""
    account = Account(kind)
    for _ in range(2):
        assert type(await account.outcome("denied")) is UpstreamRefusedCredential
    assert type(await account.outcome("granted")) is UpstreamFailed
    await account.outcome("denied")
    asked = len(account.http.requests)
    assert type(await account.outcome("granted")) is UpstreamRefusedCredential
    assert len(account.http.requests) == asked


async def test_another_account_may_have_the_model() -> None:
    """Where a credential's account lacks it, the other credentials are asked."""
    account = Account("openai", "k-0001", "k-0002")
    assert type(await account.outcome("denied")) is UpstreamModelMissing
    assert len(account.http.requests) == 2


@pytest.mark.parametrize("code", ["InvalidSignatureException", "ExpiredTokenException"])
def test_a_403_about_the_credential_itself_is_sure(code: str) -> None:
    """Amazon refuses a wrong signature with 403: nobody needs to hear it three times."""
    ward = Ward()
    ward.refuse(UpstreamRefusedCredential("403", upstream_status=403, upstream_code=code))
    assert ward.quarantine.is_out


@pytest.mark.parametrize("keys", [("k-0123",), ("k-0001", "k-0002")])
@pytest.mark.parametrize("dialect", ["raw", "openai.moderations"])
async def test_a_right_that_is_missing_elsewhere_leaves_chats_alone(
    dialect: str, keys: tuple[str, ...]
) -> None:
    """Whoever lacks the scope for files or moderations may still be good for chats; a key that is
    called wrong is out, wherever it was."""
    told = {"error": {"message": "Missing scopes: x", "type": "invalid_request_error"}}

    def answer(request: HttpRequest) -> Answer:
        is_chat = request.url.endswith("/chat/completions")
        return (500, [], []) if is_chat else (401, [], [json.dumps(told).encode()])

    provider = create_provider("openai", api_key=list(keys), http=FakeHttp(answer))
    aside = replace(CALL, dialect=dialect, path="/files", model="m")

    async def outcome(call: Call) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            async with provider.send(call, model="m"):
                pass
        return caught.value

    for _ in range(4):
        assert type(await outcome(aside)) is UpstreamRefusedCredential
    assert type(await outcome(CALL)) is UpstreamFailed
    told["error"]["code"] = "invalid_api_key"
    assert type(await outcome(aside)) is UpstreamRefusedCredential
    assert provider.credentials is not None
    assert all(each.is_out for each in provider.credentials.quarantines)

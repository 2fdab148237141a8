"""Connected accounts: what `GET /v1/account(s)` says of them, and which of them the platform may act for."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dev.stripe_events import token
from tests.fakes.stripe.errors import Refused, no_such
from tests.fakes.stripe.shapes import Asked, JsonObject, Place

if TYPE_CHECKING:
    from tests.fakes.stripe.world import World

OWN: Final = "self"
OWN_ID: Final = "acct_1Platform00000000"


def account(account_id: str, **fields: object) -> JsonObject:
    """An account that is activated, unless `fields` say otherwise."""
    return {
        "id": account_id,
        "object": "account",
        "business_profile": {"mcc": "5734", "name": f"Example {account_id[-4:]}", "support_email": None, "url": None},
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "SE",
        "created": 1_780_000_000,
        "default_currency": "eur",
        "details_submitted": True,
        "email": f"{token(account_id, 6).lower()}@example.com",
        "external_accounts": {"object": "list", "data": [], "has_more": False, "total_count": 0},
        "future_requirements": {"currently_due": [], "disabled_reason": None},
        "metadata": {},
        "payouts_enabled": True,
        "requirements": {"currently_due": [], "disabled_reason": None, "eventually_due": [], "past_due": []},
        "settings": {"dashboard": {"display_name": f"Example {account_id[-4:]}", "timezone": "Europe/Stockholm"}},
        "tos_acceptance": {"date": 1_780_000_000},
        "type": "standard",
        **fields,
    }


@dataclass
class Accounts:
    """Accounts by id, and the modes in which each was disconnected. One that nobody spoke of is connected and active."""

    by_id: dict[str, JsonObject] = field(default_factory=dict)
    connected: set[tuple[str, bool]] = field(default_factory=set)  # by OAuth
    revoked: set[tuple[str, bool]] = field(default_factory=set)

    def of(self, account_id: str) -> JsonObject:
        """The account; `self` is the platform's own."""
        account_id = OWN_ID if account_id == OWN else account_id
        return self.by_id.setdefault(account_id, account(account_id))

    def connect(self, account_id: str, livemode: bool) -> None:
        """The platform may act for it."""
        self.of(account_id)
        self.connected.add((account_id, livemode))
        self.revoked.discard((account_id, livemode))

    def disconnect(self, account_id: str, livemode: bool) -> None:
        """It may no longer."""
        self.connected.discard((account_id, livemode))
        self.revoked.add((account_id, livemode))

    def check(self, account_id: str, livemode: bool) -> None:
        """Raise Refused where the platform may not act for the account."""
        if (account_id, livemode) in self.revoked:
            raise Refused(
                403,
                f"The provided key 'sk_***' does not have access to account '{account_id}' (or that account does not "
                "exist). Application access may have been revoked.",
                code="account_invalid",
            )


def check_charges(world: "World", account_id: str) -> None:
    """Raise Refused where the account may not charge anybody."""
    if not world.accounts.of(account_id)["charges_enabled"]:
        whose = "Your account" if account_id == OWN else "This Connect account"
        raise Refused(
            400,
            f"{whose} cannot currently make live charges. The `requirements.disabled_reason` property on the account "
            "will provide information about why this account is currently disabled. If you are a customer trying to "
            "make a purchase, please contact the owner of this site. Your transaction has not been processed.",
        )


def current(world: "World", asked: Asked) -> JsonObject:
    """GET /v1/account: the account that the call is for."""
    return world.accounts.of(asked.place.account)


def retrieve(world: "World", asked: Asked) -> JsonObject:
    """GET /v1/accounts/{id}: the platform's own, or a connected one."""
    known = asked.object_id in world.accounts.by_id or asked.object_id == OWN_ID
    world.accounts.check(asked.object_id, asked.place.livemode)
    if not known:
        raise no_such("account", asked.object_id)
    return world.accounts.of(asked.object_id)


def listed(world: "World", asked: Asked) -> JsonObject:
    """GET /v1/accounts: those connected by OAuth."""
    ids = sorted(name for name, livemode in world.accounts.connected if livemode is asked.place.livemode)
    most = asked.params.get("limit", 10)
    data = [world.accounts.of(name) for name in ids]
    return {"object": "list", "url": "/v1/accounts", "has_more": len(data) > most, "data": data[:most]}


def update(world: "World", account_id: str, *, livemode: bool = False, **fields: object) -> JsonObject:
    """Stripe or the user changes the account: `account.updated`."""
    found = world.accounts.of(account_id)
    previous = {name: found.get(name) for name in fields}
    found.update(fields)
    if not found["charges_enabled"] and not found["requirements"]["disabled_reason"]:
        found["requirements"] = {**found["requirements"], "disabled_reason": "requirements.past_due"}
    elif found["charges_enabled"]:
        found["requirements"] = {**found["requirements"], "disabled_reason": None}
    world.emit(Place(account_id, livemode), "account.updated", found, previous=previous)
    return found

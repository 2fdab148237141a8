"""The environment, as each process would read it here. What a process does not need is no fault where it is not set."""

from pathlib import Path

from quittance.cli.doctor_checks import Area, Check
from quittance.connect import connect_client_id
from quittance.settings import Adoption, LogSettings, Reader
from quittance.stripe_client import StripeSettings
from workers.mail.settings import MailSettings
from workers.runtime.settings import WorkerSettings


def check_settings() -> list[Check]:
    """Every variable that ingest and the workers read: faults named, secrets never shown."""
    area = Area("environment")
    _servers(area)
    _webhook_secrets(area)
    _stripe(area)
    _connect(area)
    _mail(area)
    return area.checks


def _servers(area: Area) -> None:
    reader = Reader()
    WorkerSettings.read(reader)
    Adoption.read(reader)
    LogSettings.read(reader)
    for fault in dict.fromkeys(reader.faults):
        area.fault(fault, "set it as the README's table of variables says, for every process that reads it")
    if not reader.faults:
        area.ok("DATABASE_URL and AMQP_URL are set, and nothing else is wrong")


def _webhook_secrets(area: Area) -> None:
    reader = Reader()
    text = reader.text("STRIPE_WEBHOOK_SECRETS")
    file = reader.text("STRIPE_WEBHOOK_SECRETS_FILE")
    cure = (
        "copy the signing secret (whsec_…) of each endpoint from Stripe's dashboard; several with commas between them"
    )
    if not text and not file:
        area.note("no webhook secret is set here (STRIPE_WEBHOOK_SECRETS, or …_FILE): only ingest needs it")
        return
    secrets = text.split(",") if text else []
    if file:
        try:
            secrets += Path(file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            area.fault(f"STRIPE_WEBHOOK_SECRETS_FILE cannot be read: {error}", "mend the path, or who may read it")
            return
    empty = sum(not secret.strip() for secret in secrets)
    odd = sum(bool(secret.strip()) and not secret.strip().startswith("whsec_") for secret in secrets)
    if empty or not secrets:
        area.fault("a webhook secret is empty: anybody could sign with it, so ingest does not start", cure)
    elif odd:
        area.warning(f"{odd} of {len(secrets)} webhook secrets do not begin with whsec_, as Stripe's do", cure)
    else:
        area.ok(f"{len(secrets)} webhook secret{'s' * (len(secrets) != 1)} set")


def _stripe(area: Area) -> None:
    reader = Reader()
    settings = StripeSettings.read(reader)
    for fault in reader.faults:
        area.fault(
            fault,
            "take a secret or restricted key from Stripe's dashboard; restricted: customers, Checkout "
            "Sessions and coupons, read and write",
        )
    if reader.faults:
        return
    if not settings.api_key:
        area.warning(
            "STRIPE_API_KEY is not set: no customer is looked up or created at Stripe (R18), no session of an ended quote "
            "is expired there (R28)",
            "set it for the customers and checkouts workers, and web; here it is only looked at",
        )
        return
    mode = "live" if "_live_" in settings.api_key else "test"
    area.ok(f"STRIPE_API_KEY is a {mode} key: Stripe is called for what is of that mode only")


def _connect(area: Area) -> None:
    reader = Reader()
    client_id, key = connect_client_id(reader), reader.text("STRIPE_API_KEY")
    if reader.faults:
        area.fault(reader.faults[0], "copy it from Stripe's dashboard: Settings, Connect, Onboarding options, OAuth")
    elif not client_id:
        area.note("STRIPE_CONNECT_CLIENT_ID is not set here: nobody can connect an account (R6); only web needs it")
    elif not key:
        area.warning(
            "STRIPE_CONNECT_CLIENT_ID is set and STRIPE_API_KEY is not: nobody can connect an account",
            "set the key of the same mode for web, too",
        )
    elif "_live_" in key and reader.text("PUBLIC_URL").startswith("http://"):
        area.warning(
            "STRIPE_CONNECT_CLIENT_ID: in live mode Stripe sends people back to an address with https:// only",
            "serve web behind TLS and set PUBLIC_URL to that address; tell Stripe PUBLIC_URL/connect/return",
        )
    else:
        area.ok("STRIPE_CONNECT_CLIENT_ID is well formed (it does not show of which mode it is)")


def _mail(area: Area) -> None:
    reader = Reader()
    if not reader.text("SMTP_URL") and not reader.text("MAIL_FROM"):
        area.note("SMTP_URL and MAIL_FROM are not set here: only notifications needs them")
        return
    MailSettings.read(reader)
    for fault in reader.faults:
        area.fault(fault, "notifications does not start without it: set it as the README says")
    if not reader.faults:
        where = reader.text("MAIL_TO")
        area.ok(f"mail settings are complete; where no owner is known: {'MAIL_TO' if where else 'mail is skipped'}")

"""The environment, as each process would read it here. What a process does not need is no fault where it is not set."""

from pathlib import Path

from quittance.cli.doctor_checks import Area, Check
from quittance.settings import Adoption, LogSettings, Reader
from workers.mail.settings import MailSettings
from workers.runtime.settings import WorkerSettings
from workers.stripe_customers import StripeSettings


def check_settings() -> list[Check]:
    """Every variable that ingest and the workers read: faults named, secrets never shown."""
    area = Area("environment")
    _servers(area)
    _webhook_secrets(area)
    _stripe(area)
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
            fault, "take a secret or restricted key from Stripe's dashboard; restricted: customers, read and write"
        )
    if reader.faults:
        return
    if not settings.api_key:
        area.warning(
            "STRIPE_API_KEY is not set: no customer is looked up or created at Stripe (R18)",
            "set it for the customers worker; here it is only looked at",
        )
        return
    mode = "live" if "_live_" in settings.api_key else "test"
    area.ok(f"STRIPE_API_KEY is a {mode} key: customers are looked up and created for {mode} events only")


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

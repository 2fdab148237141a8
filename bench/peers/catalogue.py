"""The peers, each as its own documentation sets it up: two server and two worker processes where it has both."""

import sys
from collections.abc import Sequence
from typing import Final

from bench.peers import environments
from bench.peers.environments import APPS
from bench.peers.peer import SECRET, Check, Command, Peer, Place, every, once
from dev.venv import ROOT

FOUR_TABLES: Final = (
    Check("outbox", "SELECT count(*) FROM outbox", every),
    Check("customers", "SELECT count(*) FROM customers", once("customer.created")),
    Check("quotes", "SELECT count(*) FROM quotes", once("checkout.session.completed")),
)
PROCESSED: Final = Check(
    "processed events",
    "SELECT count(*) FROM processed_events",
    every,
    last="SELECT extract(epoch FROM max(processed_at))::float8 FROM processed_events",
)
ENDPOINT: Final = "5f4a2c1e-3b7d-4e8a-9c60-d1b2a3c4e5f6"  # dj-stripe's address has a UUID in it


def _environment(place: Place) -> dict[str, str]:
    return {"DATABASE_URL": place.database_url, "AMQP_URL": place.amqp_url, "STRIPE_WEBHOOK_SECRET": SECRET}


def _celery_tables(place: Place) -> Sequence[Command]:
    tables = [place.program("python"), "-m", "fastapi_celery.database"]
    return [Command("tables", tables, _environment(place))]


def _celery(place: Place) -> Sequence[Command]:
    web = ["fastapi_celery.web:app", "--host", "127.0.0.1", "--port", str(place.port), "--workers", "2"]
    worker = ["-A", "fastapi_celery.tasks", "worker", "--loglevel", "WARNING"]
    return [
        Command("web", [place.program("uvicorn"), *web, "--log-level", "warning"], _environment(place)),
        Command("worker", [place.program("celery"), *worker], _environment(place)),
    ]


def _procrastinate_tables(place: Place) -> Sequence[Command]:
    app = "--app=procrastinate_aiohttp.tasks.app"
    own = ["-m", "procrastinate_aiohttp.tables"]
    return [
        Command("schema", [place.program("procrastinate"), app, "schema", "--apply"], _environment(place)),
        Command("tables", [place.program("python"), *own], _environment(place)),
    ]


def _procrastinate(place: Place) -> Sequence[Command]:
    web = ["procrastinate_aiohttp.web:application", "--bind", f"127.0.0.1:{place.port}", "--workers", "2"]
    web += ["--worker-class", "aiohttp.GunicornUVLoopWebWorker", "--log-level", "warning"]
    worker = [place.program("procrastinate"), "--app=procrastinate_aiohttp.tasks.app", "worker", "--concurrency=10"]
    return [
        Command("web", [place.program("gunicorn"), *web], _environment(place)),
        Command("worker-1", worker, _environment(place)),
        Command("worker-2", worker, _environment(place)),
    ]


def _django(place: Place) -> dict[str, str]:
    more = {"DJANGO_SETTINGS_MODULE": "djstripe_gunicorn.settings", "STRIPE_API_HOST": place.stub_url}
    return {**_environment(place), **more}


def _djstripe_tables(place: Place) -> Sequence[Command]:
    endpoint = ["-m", "djstripe_gunicorn.endpoint", ENDPOINT]
    return [
        Command(
            "migrate", [place.program("django-admin"), "migrate", "--run-syncdb", "--verbosity", "0"], _django(place)
        ),
        Command("endpoint", [place.program("python"), *endpoint], _django(place)),
    ]


def _djstripe(place: Place) -> Sequence[Command]:
    web = ["djstripe_gunicorn.wsgi", "--bind", f"127.0.0.1:{place.port}", "--workers", "2", "--log-level", "warning"]
    return [Command("web", [place.program("gunicorn"), *web], _django(place))]


def _engine(place: Place, *arguments: str) -> Command:
    environment = {**_environment(place), "NODE_PATH": str(place.programs), "PORT": str(place.port)}
    return Command("server", ["node", str(APPS / "sync_engine" / "server.cjs"), *arguments], environment)


def _djstripe_rows(table: str, event_type: str) -> Check:
    return Check(table, f"SELECT count(*) FROM djstripe_{table}", once(event_type))  # noqa: S608 - names of ours


def _engine_rows(table: str, event_type: str) -> Check:
    return Check(table, f"SELECT count(*) FROM stripe.{table}", once(event_type))  # noqa: S608 - names of ours


FASTAPI: Final = Peer(
    name="fastapi-celery",
    title="FastAPI + SQLAlchemy + Celery",
    compared="processed",
    target=12,
    lives=240,
    path="/webhooks/stripe",
    install=environments.python,
    versions=lambda: environments.python_versions("fastapi", "uvicorn", "sqlalchemy", "psycopg", "celery", "stripe"),
    prepare=_celery_tables,
    processes=_celery,
    done=PROCESSED,
    checks=(*FOUR_TABLES, Check("events", "SELECT count(*) FROM events", every)),
    note="2 uvicorn and 2 Celery processes; event committed to Postgres, then published with a confirm to a classic "
    "queue, then 200: a crash in between loses the task. acks_late. One task does all; no mail, no relay.",
)
PROCRASTINATE: Final = Peer(
    name="procrastinate",
    title="procrastinate + aiohttp",
    compared="processed",
    target=9,
    lives=240,
    path="/webhooks/stripe",
    install=environments.python,
    versions=lambda: environments.python_versions("procrastinate", "psycopg", "aiohttp", "gunicorn", "stripe"),
    prepare=_procrastinate_tables,
    processes=_procrastinate,
    done=PROCESSED,
    checks=FOUR_TABLES,
    note="2 server processes and 2 workers of concurrency 10; the job, with the whole event, committed to Postgres "
    "before 200. No broker. One task does all; no mail, no relay.",
)
DJSTRIPE: Final = Peer(
    name="dj-stripe",
    title="dj-stripe",
    compared="processed",
    target=25,
    lives=80,
    path=f"/stripe/webhook/{ENDPOINT}/",
    install=environments.python,
    versions=lambda: environments.python_versions("dj-stripe", "django", "gunicorn", "psycopg", "stripe"),
    prepare=_djstripe_tables,
    processes=_djstripe,
    done=None,
    checks=(
        Check("processed", "SELECT count(*) FROM djstripe_webhookeventtrigger WHERE processed", every),
        Check("event", "SELECT count(*) FROM djstripe_event", every),
        _djstripe_rows("customer", "customer.created"),
        _djstripe_rows("charge", "charge.succeeded"),
        _djstripe_rows("paymentintent", "payment_intent.created"),
        _djstripe_rows("invoice", "invoice.created"),
        _djstripe_rows("subscription", "customer.subscription.created"),
        _djstripe_rows("session", "checkout.session.completed"),
    ),
    note="2 synchronous gunicorn processes, which close each connection; all objects in Postgres before 200. It fetches "
    "each object from Stripe's API, here a stub that answers at once: in reality each call takes 100 ms and more. "
    "No business effect, no outbox.",
    stub=True,
)
ENGINE: Final = Peer(
    name="stripe-sync-engine",
    title="@supabase/stripe-sync-engine",
    compared="accepted",
    target=2,
    lives=1_000,
    path="/webhooks/stripe",
    install=environments.node,
    versions=lambda: environments.node_versions("@supabase/stripe-sync-engine", "stripe", "fastify", "pg"),
    prepare=lambda place: [_engine(place, "migrate")],
    processes=lambda place: [_engine(place)],
    done=None,
    checks=(
        _engine_rows("customers", "customer.created"),
        _engine_rows("charges", "charge.succeeded"),
        _engine_rows("payment_intents", "payment_intent.created"),
        _engine_rows("invoices", "invoice.created"),
        _engine_rows("subscriptions", "customer.subscription.created"),
        _engine_rows("checkout_sessions", "checkout.session.completed"),
    ),
    note="1 Node process; the object's row in Postgres before 200. Its call of Stripe's API (the line items of each "
    "session) is cut out. No business effect, no outbox, no dedupe by event.",
    sql="CREATE ROLE postgres",  # its migrations make this role the owner of what they create
)
ALL: Final = (FASTAPI, PROCRASTINATE, DJSTRIPE, ENGINE)


def stub(runs: Sequence[str], port: int) -> Command:
    """Stripe's API, as far as these runs need it."""
    return Command("stripe", [sys.executable, "-m", "bench.peers.stripe_stub", str(port), *runs], {}, ROOT)

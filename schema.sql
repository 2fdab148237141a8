-- Quittance: every table, constraint and index. Declarations only; `quittance init` applies this file, and may do so
-- again at any time. Every key begins with (account, livemode): test and live never meet, nor do two accounts (S1).
--
-- Partitions are made by `quittance init` and, ahead of time, by the relay (quittance/partitions.py, and the functions below
-- that change them in its stead). Who may do what with which table stands at the end. Postgres has no
-- unique key across partitions, so each partitioned table that must refuse a duplicate is partitioned by the event's
-- own `created`, which is the same however often the event comes (0, that is 1970, where absent or absurd).

-- Archive ------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS events (
    created     timestamptz NOT NULL,
    account     text        NOT NULL,
    livemode    boolean     NOT NULL,
    event_id    text        NOT NULL,
    type        text        NOT NULL,
    api_version text,
    ids         text[] COLLATE "C" NOT NULL,
    body        bytea       NOT NULL,
    received_at timestamptz NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (created, account, livemode, event_id)
) PARTITION BY RANGE (created);
COMMENT ON TABLE events IS 'Every accepted event of any type, as Stripe sent it. By month of `created`.';
COMMENT ON COLUMN events.body IS 'The bytes as received: Postgres refuses some valid JSON in text and jsonb.';
COMMENT ON COLUMN events.ids IS 'Its own id, then every other Stripe id and quote id in the body: to find an event by.';
CREATE TABLE IF NOT EXISTS events_default PARTITION OF events DEFAULT;
-- A third of the time that pglz takes, where this Postgres was built with it. New partitions take it from the table.
DO $$
BEGIN
    ALTER TABLE events ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    NULL;
END $$;
CREATE INDEX IF NOT EXISTS events_type_created ON events (type, created);
CREATE INDEX IF NOT EXISTS events_ids ON events USING gin (ids);
-- Of a database from before `ids` began with the event's own.
DROP INDEX IF EXISTS events_event_id;

-- Inbox and failed deliveries ------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS inbox (
    created    timestamptz NOT NULL,
    queue      text        NOT NULL,
    account    text        NOT NULL,
    livemode   boolean     NOT NULL,
    event_id   text        NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (created, queue, account, livemode, event_id)
) PARTITION BY RANGE (created);
COMMENT ON TABLE inbox IS 'What each queue has handled. By week of `created`; kept 40 days, longer than Stripe resends (30).';
CREATE TABLE IF NOT EXISTS inbox_default PARTITION OF inbox DEFAULT;

CREATE TABLE IF NOT EXISTS failed_deliveries (
    id              bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    queue           text        NOT NULL,
    account         text        NOT NULL,
    livemode        boolean     NOT NULL,
    event_id        text        NOT NULL,
    type            text        NOT NULL,
    quote_id        text,
    state           text        NOT NULL
        CHECK (state IN ('retrying', 'dead', 'replaying', 'resolved', 'discarded')),
    reason          text        NOT NULL,
    error           text        NOT NULL DEFAULT '',
    traceback       text        NOT NULL DEFAULT '',
    fingerprint     text        NOT NULL DEFAULT '',
    attempts        integer     NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    first_failed_at timestamptz NOT NULL DEFAULT now(),
    last_failed_at  timestamptz NOT NULL DEFAULT now(),
    next_at         timestamptz,
    replay_id       text,
    body            bytea       NOT NULL,
    headers         jsonb       NOT NULL,
    PRIMARY KEY (queue, account, livemode, event_id)
);
COMMENT ON TABLE failed_deliveries IS 'One row per queue and event that could not be handled at the first try.';
COMMENT ON COLUMN failed_deliveries.next_at IS
    'When the relay sends it to its queue again; null once it is under way, and when nobody waits for it.';
COMMENT ON COLUMN failed_deliveries.fingerprint IS 'Groups failures of one cause: reason, exception and place.';
CREATE INDEX IF NOT EXISTS failed_deliveries_due ON failed_deliveries (next_at)
    WHERE state IN ('retrying', 'replaying') AND next_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS failed_deliveries_state ON failed_deliveries (state, queue, last_failed_at);
CREATE INDEX IF NOT EXISTS failed_deliveries_event ON failed_deliveries (event_id);

CREATE TABLE IF NOT EXISTS failed_delivery_history (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failed_delivery_id bigint      NOT NULL REFERENCES failed_deliveries (id) ON DELETE CASCADE,
    at                 timestamptz NOT NULL DEFAULT now(),
    actor              text        NOT NULL,
    action             text        NOT NULL,
    note               text        NOT NULL DEFAULT ''
);
COMMENT ON TABLE failed_delivery_history IS 'Who did what to a failed delivery, workers included. Only ever added to.';
CREATE INDEX IF NOT EXISTS failed_delivery_history_of ON failed_delivery_history (failed_delivery_id, id);

-- Outbox -------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination text        NOT NULL,
    bucket      smallint    NOT NULL,
    stream      text        NOT NULL,
    exchange    text        NOT NULL,
    routing_key text        NOT NULL,
    event_id    text        NOT NULL,
    type        text        NOT NULL,
    headers     jsonb       NOT NULL,
    body        bytea       NOT NULL,
    queued_at   timestamptz NOT NULL DEFAULT now()
) WITH (
    -- Every row is deleted within a second: a vacuum a minute, without pauses, keeps the table at a minute's size.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE outbox IS
    'What is committed and not yet confirmed by the broker, one row per event and destination; the relay deletes it.';
COMMENT ON COLUMN outbox.stream IS 'Rows of one stream (a quote) are published in order of id.';
COMMENT ON COLUMN outbox.bucket IS 'A hash of the stream: what a relay claims, so that two relays share the streams.';
CREATE INDEX IF NOT EXISTS outbox_unpublished ON outbox (destination, bucket, id);

-- Quotes -------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS quotes (
    account             text        NOT NULL,
    livemode            boolean     NOT NULL,
    quote_id            text        NOT NULL,
    sequence            bigint      NOT NULL CHECK (sequence >= 0),
    facts               jsonb       NOT NULL,
    data                jsonb       NOT NULL,
    documents_version   bigint      NOT NULL DEFAULT 0,
    document_names      jsonb       NOT NULL DEFAULT '[]',
    number              text,
    title               text,
    locale              text        NOT NULL DEFAULT 'en',
    time_zone           text        NOT NULL DEFAULT 'UTC',
    owner_name          text,
    owner_email         text,
    revision            integer     NOT NULL DEFAULT 1,
    status              text        NOT NULL,
    label               text        NOT NULL,
    paid_at             timestamptz,
    paid_revision       integer,
    currency            text        CHECK (currency = lower(currency)),
    amount_due          bigint,
    amount_captured     bigint,
    amount_refunded     bigint,
    amount_lost         bigint,
    dispute_status      text,
    subscription_status text,
    anomalies           text[]      NOT NULL DEFAULT '{}',
    first_seen_at       timestamptz NOT NULL DEFAULT now(),
    changed_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, livemode, quote_id),
    CHECK (status IN ('not_enabled', 'disputed', 'dispute_lost', 'paid', 'refunded', 'partially_refunded',
                      'partially_paid', 'processing', 'recalled', 'expired', 'payment_failed', 'checkout_started',
                      'pending'))
);
COMMENT ON TABLE quotes IS 'One row per quote: its payment status, a pure function of its facts (RULES S).';
COMMENT ON COLUMN quotes.facts IS 'What is known of the quote beside stripe_objects: publications, customers, documents.';
COMMENT ON COLUMN quotes.data IS 'The data of the newest CRM event.';
CREATE INDEX IF NOT EXISTS quotes_status ON quotes (account, livemode, status, changed_at);
CREATE INDEX IF NOT EXISTS quotes_id ON quotes (quote_id);
CREATE INDEX IF NOT EXISTS quotes_status_id ON quotes (account, livemode, status, quote_id);

CREATE TABLE IF NOT EXISTS quote_status_changes (
    account    text        NOT NULL,
    livemode   boolean     NOT NULL,
    quote_id   text        NOT NULL,
    sequence   bigint      NOT NULL CHECK (sequence > 0),
    previous   text,
    status     text        NOT NULL,
    label      text        NOT NULL,
    cause_id   text        NOT NULL,
    cause_type text        NOT NULL,
    data       jsonb       NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    feed_place xid8        NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (account, livemode, quote_id, sequence)
);
COMMENT ON TABLE quote_status_changes IS 'Every change told to the CRM, in sequence, without a gap (S5).';
-- Of a database from before there was a feed: all that is in it then has one place.
ALTER TABLE quote_status_changes ADD COLUMN IF NOT EXISTS feed_place xid8 NOT NULL DEFAULT pg_current_xact_id();
COMMENT ON COLUMN quote_status_changes.feed_place IS
    'Orders the changes of all quotes (GET /v1/changes): the transaction that wrote it, or the place of the quote''s change '
    'before it, whichever is greater. web/changes.py proves why no reader misses one.';
CREATE INDEX IF NOT EXISTS quote_status_changes_feed ON quote_status_changes
    (account, livemode, feed_place, quote_id, sequence);

CREATE TABLE IF NOT EXISTS stripe_objects (
    account    text        NOT NULL,
    livemode   boolean     NOT NULL,
    object_id  text COLLATE "C" NOT NULL,
    quote_id   text        NOT NULL,
    kind       text        NOT NULL,
    snapshot   jsonb       NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, livemode, object_id)
);
COMMENT ON TABLE stripe_objects IS 'What is kept of each Stripe object that belongs to a quote (S2), and of each id that one names.';
CREATE INDEX IF NOT EXISTS stripe_objects_quote ON stripe_objects (account, livemode, quote_id);

CREATE TABLE IF NOT EXISTS waiting_facts (
    waiting_since timestamptz NOT NULL DEFAULT now(),
    account       text        NOT NULL,
    livemode      boolean     NOT NULL,
    id            text COLLATE "C" NOT NULL,
    object_id     text COLLATE "C" NOT NULL,
    fact          jsonb
) PARTITION BY RANGE (waiting_since);
COMMENT ON TABLE waiting_facts IS
    'Facts of Stripe objects that no quote is known for yet. A row per id that the fact is about or names; the fact itself '
    'in the row where id = object_id. By week of arrival; dropped after 40 days, when the archive still has them.';
CREATE TABLE IF NOT EXISTS waiting_facts_default PARTITION OF waiting_facts DEFAULT;
CREATE INDEX IF NOT EXISTS waiting_facts_id ON waiting_facts (account, livemode, id);

-- Customers ----------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS customers (
    account            text        NOT NULL,
    livemode           boolean     NOT NULL,
    email_normalised   text        NOT NULL CHECK (email_normalised <> ''),
    email              text        NOT NULL,
    email_created      bigint      NOT NULL,
    email_event_id     text        NOT NULL,
    stripe_customer_id text COLLATE "C",
    created_at         timestamptz NOT NULL DEFAULT now(),
    changed_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, livemode, email_normalised)
);
COMMENT ON TABLE customers IS 'One row per account, mode and normalised e-mail address (R18). An address once seen stays.';
COMMENT ON COLUMN customers.email IS 'As the first event that had it spelt it: email_created (Unix seconds), email_event_id.';
COMMENT ON COLUMN customers.stripe_customer_id IS
    'The canonical one of its aliases: the first that came to the address and still lives there; null without one.';

CREATE TABLE IF NOT EXISTS customer_aliases (
    account            text     NOT NULL,
    livemode           boolean  NOT NULL,
    stripe_customer_id text COLLATE "C" NOT NULL,
    email_normalised   text,
    email              text,
    deleted            boolean  NOT NULL DEFAULT false,
    rank               smallint NOT NULL,
    created            bigint   NOT NULL,
    event_id           text     NOT NULL,
    moved_at           bigint,
    first_at           bigint   NOT NULL,
    since              bigint   NOT NULL GENERATED ALWAYS AS (coalesce(moved_at, first_at)) STORED,
    elsewhere          jsonb,
    PRIMARY KEY (account, livemode, stripe_customer_id)
);
COMMENT ON TABLE customer_aliases IS
    'The address of each Stripe customer, as the fact with the greatest (rank, created, event_id) has it (S2).';
COMMENT ON COLUMN customer_aliases.email_normalised IS
    'Null where the customer has none. A deleted customer keeps its last, so that it is still found there.';
COMMENT ON COLUMN customer_aliases.since IS
    'Since when it is there (Unix seconds): moved_at, of the newest event that says so, else first_at, of the oldest event.';
COMMENT ON COLUMN customer_aliases.elsewhere IS 'Its former addresses, with the same of each; null for the most, who never moved.';
CREATE INDEX IF NOT EXISTS customer_aliases_email ON customer_aliases
    (account, livemode, email_normalised, deleted, since, stripe_customer_id);

CREATE TABLE IF NOT EXISTS quote_customers (
    account            text     NOT NULL,
    livemode           boolean  NOT NULL,
    session_id         text COLLATE "C" NOT NULL,
    quote_id           text     NOT NULL,
    stripe_customer_id text COLLATE "C",
    email              text,
    email_normalised   text,
    paid               boolean  NOT NULL,
    rank               smallint NOT NULL,
    created            bigint   NOT NULL,
    event_id           text     NOT NULL,
    event_type         text     NOT NULL,
    told_version       bigint,
    told_email         text,
    told_customer_id   text COLLATE "C",
    PRIMARY KEY (account, livemode, session_id)
);
COMMENT ON TABLE quote_customers IS
    'Who checked out which quote, as the greatest (rank, created, event_id) of the session has it (S2); and what the quotes '
    'worker was last told of it.';
CREATE INDEX IF NOT EXISTS quote_customers_alias ON quote_customers (account, livemode, stripe_customer_id)
    WHERE stripe_customer_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS quote_customers_email ON quote_customers (account, livemode, email_normalised)
    WHERE email_normalised IS NOT NULL;
CREATE INDEX IF NOT EXISTS quote_customers_quote ON quote_customers (account, livemode, quote_id);

CREATE TABLE IF NOT EXISTS customer_requests (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account          text        NOT NULL,
    livemode         boolean     NOT NULL,
    email_normalised text        NOT NULL,
    email            text        NOT NULL,
    name             text,
    quote_id         text        NOT NULL,
    event_id         text        NOT NULL,
    event_type       text        NOT NULL,
    event_created    bigint      NOT NULL,
    event_headers    jsonb,
    event_body       bytea,
    received_at      double precision NOT NULL,
    state            text        NOT NULL CHECK (state IN ('due', 'done', 'skipped', 'refused')),
    round            integer     NOT NULL DEFAULT 1,
    due_at           timestamptz NOT NULL DEFAULT now(),
    claim            uuid,
    claimed_until    timestamptz,
    attempts         integer     NOT NULL DEFAULT 0,
    error            text        NOT NULL DEFAULT '',
    UNIQUE (account, livemode, email_normalised)
);
COMMENT ON TABLE customer_requests IS
    'Addresses to look up at Stripe, or to make a customer of there (R18, R19); performed under a lease.';
COMMENT ON COLUMN customer_requests.state IS
    'skipped: STRIPE_API_KEY is not set, or is of the other mode. Replaying the event asks again, as it does of a refused one.';
COMMENT ON COLUMN customer_requests.event_body IS 'The event behind it while it is due: for the dead letter, should Stripe refuse.';
COMMENT ON COLUMN customer_requests.round IS
    'Part of the idempotency key: a later wish for the same address must not be answered with what became of an earlier one.';
CREATE INDEX IF NOT EXISTS customer_requests_due ON customer_requests (due_at) WHERE state = 'due';

-- Documents ----------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS documents (
    account         text        NOT NULL,
    livemode        boolean     NOT NULL,
    object_id       text COLLATE "C" NOT NULL,
    quote_id        text        NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('receipt', 'invoice')),
    version         bigint      NOT NULL,
    number          text,
    status          text        NOT NULL,
    currency        text        CHECK (currency = lower(currency)),
    amount          bigint,
    amount_paid     bigint,
    amount_refunded bigint,
    url             text,
    pdf_url         text,
    issued_at       timestamptz,
    snapshot        jsonb       NOT NULL,
    changed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, livemode, object_id)
);
COMMENT ON TABLE documents IS
    'Billing documents of quotes, one row per Stripe object: the receipt of a one-time charge, the invoice of a recurring one (R14).';
COMMENT ON COLUMN documents.version IS 'That of the newest document.changed; greater is newer.';
COMMENT ON COLUMN documents.amount_refunded IS 'Null of an invoice, which does not know: its charge is what is refunded.';
COMMENT ON COLUMN documents.snapshot IS 'All that is kept of the object (S2); the other columns follow from it.';
CREATE INDEX IF NOT EXISTS documents_quote ON documents (account, livemode, quote_id);

CREATE SEQUENCE IF NOT EXISTS versions;
COMMENT ON SEQUENCE versions IS 'Orders what customers and documents tell of one subject; drawn under that subject''s lock.';

CREATE TABLE IF NOT EXISTS document_owners (
    account   text    NOT NULL,
    livemode  boolean NOT NULL,
    object_id text COLLATE "C" NOT NULL,
    quote_id  text    NOT NULL,
    version   bigint  NOT NULL,
    PRIMARY KEY (account, livemode, object_id, quote_id)
);
COMMENT ON TABLE document_owners IS
    'Which Stripe objects each quote''s newest naming holds; where two quotes name one, the greater version has it.';
CREATE INDEX IF NOT EXISTS document_owners_quote ON document_owners (account, livemode, quote_id);

CREATE TABLE IF NOT EXISTS document_namings (
    account  text    NOT NULL,
    livemode boolean NOT NULL,
    quote_id text    NOT NULL,
    version  bigint  NOT NULL,
    PRIMARY KEY (account, livemode, quote_id)
);
COMMENT ON TABLE document_namings IS 'The newest naming seen of each quote: an older one that comes late is passed over.';

CREATE TABLE IF NOT EXISTS waiting_documents (
    waiting_since timestamptz NOT NULL DEFAULT now(),
    account       text  NOT NULL,
    livemode      boolean NOT NULL,
    object_id     text COLLATE "C" NOT NULL,
    fact          jsonb NOT NULL
) PARTITION BY RANGE (waiting_since);
COMMENT ON TABLE waiting_documents IS
    'Facts of charges and invoices that no quote has named. By week of arrival; dropped after 40 days, when the archive still has them.';
CREATE TABLE IF NOT EXISTS waiting_documents_default PARTITION OF waiting_documents DEFAULT;
CREATE INDEX IF NOT EXISTS waiting_documents_id ON waiting_documents (account, livemode, object_id);

-- Mail ---------------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS emails (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account       text        NOT NULL,
    livemode      boolean     NOT NULL,
    quote_id      text        NOT NULL,
    revision      integer     NOT NULL,
    kind          text        NOT NULL,
    recipient     text,
    to_owner      boolean     NOT NULL,
    message_id    text        NOT NULL,
    subject       text,
    paid_at       timestamptz,
    event_id      text        NOT NULL,
    event_type    text        NOT NULL,
    event_headers jsonb       NOT NULL,
    event_body    bytea       NOT NULL,
    state         text        NOT NULL CHECK (state IN ('due', 'sent', 'skipped', 'refused')),
    due_at        timestamptz NOT NULL DEFAULT now(),
    claim         uuid,
    claimed_until timestamptz,
    attempts      integer     NOT NULL DEFAULT 0,
    error         text        NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    sent_at       timestamptz,
    UNIQUE (account, livemode, quote_id, revision, kind),
    UNIQUE (message_id)
);
COMMENT ON TABLE emails IS 'Mail to sellers: one per quote, revision and kind (`paid`, or an anomaly); sent under a lease.';
COMMENT ON COLUMN emails.to_owner IS 'False where no owner was known and MAIL_TO gets it.';
COMMENT ON COLUMN emails.paid_at IS 'When the revision was paid, as the change that caused the mail had it.';
COMMENT ON COLUMN emails.event_body IS 'The change that caused the mail: what a replay of a refused mail sends again.';
COMMENT ON COLUMN emails.state IS 'skipped: no owner is known and MAIL_TO is not set (counted, no dead letter).';
CREATE UNIQUE INDEX IF NOT EXISTS emails_anomaly_once ON emails (account, livemode, quote_id, kind) WHERE kind <> 'paid';
CREATE INDEX IF NOT EXISTS emails_due ON emails (due_at) WHERE state = 'due';

-- Publishing ---------------------------------------------------------------------------------------------------------

CREATE TABLE IF NOT EXISTS accounts (
    account         text        NOT NULL,
    livemode        boolean     NOT NULL,
    charges_enabled boolean,
    name            text,
    country         text,
    connected_at    timestamptz,
    deauthorised_at timestamptz,
    changed_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, livemode)
);
COMMENT ON TABLE accounts IS 'What is known of a Stripe account; `self` is the key''s own. One without a row is not known.';
COMMENT ON COLUMN accounts.charges_enabled IS 'Whether it can take payments (R4); null while Stripe has not said.';
-- Of a database from before accounts could be connected.
ALTER TABLE accounts ADD COLUMN IF NOT EXISTS facts jsonb NOT NULL DEFAULT '{}';
ALTER TABLE accounts ADD COLUMN IF NOT EXISTS first_seen_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN accounts.facts IS 'All that is kept of what Stripe said, by its own clock; the columns before it follow from it.';
COMMENT ON COLUMN accounts.connected_at IS 'Since when it is connected (R6); of one that is not any more, when it last was.';
COMMENT ON COLUMN accounts.deauthorised_at IS
    'When its owner, or we, took the connection back; null again once it is connected anew.';

CREATE TABLE IF NOT EXISTS api_tokens (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_hash  bytea       NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    prefix      text        NOT NULL,
    account     text        NOT NULL CHECK (account <> ''),
    livemode    boolean     NOT NULL,
    permissions text[]      NOT NULL
        CHECK (cardinality(permissions) > 0 AND permissions <@ '{publish,read,connect,operate}'::text[]),
    note        text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);
COMMENT ON TABLE api_tokens IS 'Who may call the quotes API: for which account and mode, and what.';
COMMENT ON COLUMN api_tokens.token_hash IS 'SHA-256 of the token. It has 256 random bits, so there is nothing to guess from it.';
COMMENT ON COLUMN api_tokens.prefix IS 'The beginning of the token, to recognise it by.';

CREATE TABLE IF NOT EXISTS oauth_states (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    token_id     bigint      NOT NULL REFERENCES api_tokens (id),
    account      text        NOT NULL,
    livemode     boolean     NOT NULL,
    start_hash   bytea       NOT NULL UNIQUE CHECK (length(start_hash) = 32),
    state_hash   bytea       UNIQUE CHECK (length(state_hash) = 32),
    browser_hash bytea       CHECK (length(browser_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    started_at   timestamptz,
    used_at      timestamptz,
    outcome      text        NOT NULL DEFAULT '',
    connected    text,
    CHECK ((started_at IS NULL) = (state_hash IS NULL) AND (started_at IS NULL) = (browser_hash IS NULL))
);
COMMENT ON TABLE oauth_states IS
    'Attempts to connect an account (R6), each begun with a token, gone through in one browser, and used once. Dropped after '
    '30 days.';
COMMENT ON COLUMN oauth_states.start_hash IS 'SHA-256 of the secret in the address that the token''s owner was given.';
COMMENT ON COLUMN oauth_states.state_hash IS 'SHA-256 of the `state` that Stripe gives back; set when a browser opens that address.';
COMMENT ON COLUMN oauth_states.browser_hash IS 'SHA-256 of the cookie that this browser was given.';
COMMENT ON COLUMN oauth_states.outcome IS 'What became of it: connected, or why not; empty while it is under way or given up.';
COMMENT ON COLUMN oauth_states.connected IS 'The account that Stripe named.';
CREATE INDEX IF NOT EXISTS oauth_states_expires_at ON oauth_states (expires_at);

CREATE TABLE IF NOT EXISTS published_quotes (
    account      text        NOT NULL,
    livemode     boolean     NOT NULL,
    quote_id     text        NOT NULL,
    revision     integer     NOT NULL CHECK (revision > 0),
    content_hash bytea       NOT NULL CHECK (length(content_hash) = 32),
    content      jsonb       NOT NULL,
    totals       jsonb       NOT NULL,
    warnings     jsonb       NOT NULL DEFAULT '[]',
    page_token   text        NOT NULL UNIQUE CHECK (length(page_token) >= 22),
    checkout_key text        NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    recalled_at  timestamptz,
    expired_at   timestamptz,
    PRIMARY KEY (account, livemode, quote_id, revision)
);
COMMENT ON TABLE published_quotes IS 'What was published, one row per revision; content never changes (R17).';
COMMENT ON COLUMN published_quotes.content_hash IS 'SHA-256 of the content''s canonical JSON: the same content again is no new revision.';
COMMENT ON COLUMN published_quotes.page_token IS 'The secret part of the quote page''s address; no address leads to another.';
COMMENT ON COLUMN published_quotes.checkout_key IS 'Marks the Checkout Sessions that we create of this revision (S1).';
COMMENT ON COLUMN published_quotes.expires_at IS 'The end of the expiry day in the quote''s own time zone (R28).';
COMMENT ON COLUMN published_quotes.expired_at IS 'When the clock noticed: from then on it is told.';
CREATE UNIQUE INDEX IF NOT EXISTS published_quotes_one_live ON published_quotes (account, livemode, quote_id)
    WHERE recalled_at IS NULL;
CREATE INDEX IF NOT EXISTS published_quotes_expiring ON published_quotes (expires_at)
    WHERE recalled_at IS NULL AND expired_at IS NULL AND expires_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS checkout_sessions (
    id              bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    account         text        NOT NULL,
    livemode        boolean     NOT NULL,
    quote_id        text        NOT NULL,
    revision        integer     NOT NULL,
    attempt         integer     NOT NULL CHECK (attempt > 0),
    state           text        NOT NULL CHECK (state IN ('creating', 'open', 'closing', 'complete', 'closed')),
    idempotency_key text        NOT NULL UNIQUE,
    params          jsonb,
    session_id      text COLLATE "C",
    url             text,
    expires_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    claim           uuid,
    claimed_until   timestamptz,
    due_at          timestamptz NOT NULL DEFAULT now(),
    attempts        integer     NOT NULL DEFAULT 0,
    error           text        NOT NULL DEFAULT '',
    PRIMARY KEY (account, livemode, quote_id, revision, attempt),
    UNIQUE (account, session_id),
    CHECK (state <> 'open' OR url IS NOT NULL)
);
COMMENT ON TABLE checkout_sessions IS 'Every attempt to pay a published quote at Stripe, numbered within its revision.';
COMMENT ON COLUMN checkout_sessions.state IS
    'Only rises: creating (asked for, not answered), open (a buyer can pay), closing (to be expired at Stripe), complete '
    '(paid, or handed in), closed (expired, failed, or never made).';
COMMENT ON COLUMN checkout_sessions.params IS
    'Exactly what is sent, since Stripe refuses other parameters under the same key; null while nothing was sent.';
COMMENT ON COLUMN checkout_sessions.expires_at IS 'When the session that params asks for ends by itself.';
COMMENT ON COLUMN checkout_sessions.claimed_until IS
    'Until then whoever holds `claim` may be calling Stripe for it; afterwards anybody may go on, with the same key.';
CREATE UNIQUE INDEX IF NOT EXISTS checkout_sessions_one_payable ON checkout_sessions (account, livemode, quote_id)
    WHERE state IN ('creating', 'open', 'closing');
COMMENT ON INDEX checkout_sessions_one_payable IS
    'Never two sessions of a quote that could both be paid: the one before must be known to be over, at Stripe as well.';
CREATE INDEX IF NOT EXISTS checkout_sessions_closing ON checkout_sessions (due_at) WHERE state = 'closing';

CREATE TABLE IF NOT EXISTS quote_coupons (
    id            bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    account       text        NOT NULL,
    livemode      boolean     NOT NULL,
    quote_id      text        NOT NULL,
    revision      integer     NOT NULL,
    coupon_id     text COLLATE "C" NOT NULL,
    state         text        NOT NULL CHECK (state IN ('live', 'archiving', 'archived')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    claim         uuid,
    claimed_until timestamptz,
    due_at        timestamptz NOT NULL DEFAULT now(),
    attempts      integer     NOT NULL DEFAULT 0,
    error         text        NOT NULL DEFAULT '',
    PRIMARY KEY (account, livemode, quote_id, revision)
);
COMMENT ON TABLE quote_coupons IS
    'The coupon of each revision with a discount (R15), noted before it is made at Stripe; never edited, archived when the '
    'revision is recalled or expires.';
CREATE INDEX IF NOT EXISTS quote_coupons_archiving ON quote_coupons (due_at) WHERE state = 'archiving';

-- What needs more rights than a process has ----------------------------------------------------------------------------
--
-- These functions run with the rights of their owner, which is the tables' owner, and are made so below (SECURITY DEFINER,
-- a search_path of their own). What a caller may choose is bounded here, not by the caller.

CREATE OR REPLACE FUNCTION partition_column(partitioned text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    CASE partitioned
        WHEN 'events', 'inbox' THEN RETURN 'created';
        WHEN 'waiting_facts', 'waiting_documents' THEN RETURN 'waiting_since';
        ELSE RAISE invalid_parameter_value USING MESSAGE = format('%s is not partitioned by us', partitioned);
    END CASE;
END $$;

CREATE OR REPLACE FUNCTION partition_end(partitioned text, starts timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
    unit CONSTANT text := CASE partitioned WHEN 'events' THEN 'month' ELSE 'week' END;
BEGIN
    IF starts <> date_trunc(unit, starts, 'UTC') THEN
        RAISE invalid_parameter_value USING MESSAGE = format('no %s begins at %s', unit, starts);
    END IF;
    RETURN ((starts AT TIME ZONE 'UTC') + ('1 ' || unit)::interval) AT TIME ZONE 'UTC';
END $$;

CREATE OR REPLACE FUNCTION partition_name(partitioned text, starts timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT partitioned || to_char(starts AT TIME ZONE 'UTC', '_YYYYMMDD')
$$;

-- First made apart and attached then: PARTITION OF would lock the whole table, ATTACH locks DEFAULT alone. DEFAULT is
-- locked before its rows are moved, or a row that comes in between would make the ATTACH fail.
CREATE OR REPLACE FUNCTION make_partition(partitioned text, starts timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    by_column CONSTANT text := partition_column(partitioned);
    ends CONSTANT timestamptz := partition_end(partitioned, starts);
    named CONSTANT text := partition_name(partitioned, starts);
BEGIN
    IF ends < now() - interval '100 days' OR starts > now() + interval '100 days' THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is not of these months', named);
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', named, partitioned);
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', partitioned || '_default');
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE %I >= $1 AND %I < $2 RETURNING *) INSERT INTO %I SELECT * FROM moved',
        partitioned || '_default', by_column, by_column, named
    ) USING starts, ends;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partitioned, named, starts, ends);
END $$;
COMMENT ON FUNCTION make_partition IS 'Makes the week''s, of events the month''s, that begins then; rows of it move there from DEFAULT.';

-- Stripe resends for 30 days, and what waits for its quote is looked up in the archive after 39: nothing younger goes,
-- whoever asks.
CREATE OR REPLACE FUNCTION drop_partition(partitioned text, starts timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM partition_column(partitioned);
    IF partition_end(partitioned, starts) > now() - interval '40 days' THEN
        RAISE invalid_parameter_value
            USING MESSAGE = format('%s has rows that are younger than 40 days', partition_name(partitioned, starts));
    END IF;
    EXECUTE format('DROP TABLE %I', partition_name(partitioned, starts));
END $$;
COMMENT ON FUNCTION drop_partition IS 'Drops the one that begins then, once all of it is 40 days old.';

-- What lies in DEFAULT, having no time of its own or one long past, is old when it has been here for long.
CREATE OR REPLACE FUNCTION empty_default_partition(partitioned text, oldest timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    by_column CONSTANT text := partition_column(partitioned);
    arrived CONSTANT text := CASE partitioned WHEN 'events' THEN 'received_at' WHEN 'inbox' THEN 'handled_at' ELSE by_column END;
BEGIN
    EXECUTE format('DELETE FROM %I WHERE %I < $1 AND %I < $1', partitioned || '_default', by_column, arrived)
    USING least(oldest, now() - interval '40 days');
END $$;
COMMENT ON FUNCTION empty_default_partition IS 'Deletes from DEFAULT what is older, and has been here for longer; 40 days at least.';

-- SKIP_LOCKED: who vacuums or analyses it just now is not waited for. A tenth of the usual sample: our statements find their
-- rows by key, whatever the frequencies are, and in a burst on new tables the usual one took a fifth of Postgres' time.
CREATE OR REPLACE FUNCTION analyze_table(named text) RETURNS void LANGUAGE plpgsql SET default_statistics_target = 10 AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname = named)
    THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%s is no table of ours', named);
    END IF;
    EXECUTE format('ANALYZE (SKIP_LOCKED) %I', named);
END $$;
COMMENT ON FUNCTION analyze_table IS 'Takes the planner''s statistics of a table of this schema.';

-- Who has a token's hash is told whose it is; nobody but the owner can read the hashes that there are.
CREATE OR REPLACE FUNCTION tokens_with(hashes bytea[])
RETURNS TABLE (id bigint, token_hash bytea, account text, livemode boolean, permissions text[], revoked boolean)
LANGUAGE sql STABLE AS $$
    SELECT known.id, known.token_hash, known.account, known.livemode, known.permissions, known.revoked_at IS NOT NULL
    FROM api_tokens AS known WHERE known.token_hash = ANY (hashes)
$$;
COMMENT ON FUNCTION tokens_with IS 'The tokens with these hashes (SHA-256).';

-- Rights ---------------------------------------------------------------------------------------------------------------
--
-- A role for each kind of process, without a login; the users that processes log in as are made members of them
-- (docs/security.md). The statements of each decide what it is granted, no more: tests/schema/. Roles belong to the
-- cluster, so those of another database may be there, or be made in the same moment.

DO $roles$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY '{quittance_workers,quittance_relay,quittance_web,quittance_operators,quittance_previewers}'::text[]
    LOOP
        CONTINUE WHEN to_regrole(role) IS NOT NULL;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOINHERIT', role);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE WARNING '% may not create the role %: docs/security.md has what a superuser types', current_user, role;
        END;
    END LOOP;
    -- A preview runs the workers' code and rolls it back. Who may preview has the workers' rights only where he takes
    -- their role for it (SET ROLE), not in what else he does: so it does not inherit. (Said when it is made: two ALTER ROLE at
    -- once, for two databases, would trip over each other.)
    IF to_regrole('quittance_workers') IS NOT NULL AND to_regrole('quittance_previewers') IS NOT NULL
       AND NOT pg_has_role('quittance_previewers', 'quittance_workers', 'MEMBER') THEN
        BEGIN
            GRANT quittance_workers TO quittance_previewers;
        EXCEPTION
            WHEN unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE WARNING '% may not make quittance_previewers a member of quittance_workers: docs/security.md', current_user;
        END;
    END IF;
END $roles$;

DO $rights$
DECLARE
    here CONSTANT text := current_schema();
    roles text;
    lists text;
BEGIN
    -- Not beside a relay that attaches a partition: both would write the same rows of the catalogue.
    PERFORM pg_advisory_xact_lock(7201, 2);

    SELECT coalesce(string_agg(rolname, ', '), '') INTO roles
    FROM pg_roles
    WHERE rolname IN ('quittance_workers', 'quittance_relay', 'quittance_web', 'quittance_operators', 'quittance_previewers');

    -- The functions above, to run as their owner. pg_temp last: nothing that a caller makes is found before ours.
    SELECT string_agg(format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', named::regprocedure, here), '; ')
    INTO lists
    FROM unnest('{"make_partition(text,timestamptz)","drop_partition(text,timestamptz)",
                  "empty_default_partition(text,timestamptz)",analyze_table(text),tokens_with(bytea[])}'::text[]) AS named;
    EXECUTE lists;
    REVOKE ALL ON FUNCTION partition_column, partition_end, partition_name, make_partition, drop_partition,
                           empty_default_partition, analyze_table, tokens_with FROM PUBLIC;

    -- What everybody has by default: the database and the schema are ours alone, as far as they are ours.
    IF pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') THEN
        EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
        IF roles <> '' THEN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), roles);
        END IF;
    END IF;
    IF pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = here), 'USAGE') THEN
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', here);
        IF roles <> '' THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', here, roles);
        END IF;
    END IF;
    IF roles = '' THEN
        RETURN;
    END IF;

    -- What an earlier version granted, and this one does not. Partitions are reached through their table alone.
    SELECT string_agg(format('%I.%I', here, relname), ', ') INTO lists
    FROM pg_class
    WHERE relnamespace = here::regnamespace AND relkind IN ('r', 'p') AND relacl IS NOT NULL AND pg_has_role(relowner, 'USAGE');
    IF lists IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON TABLE %s FROM PUBLIC, %s', lists, roles);
    END IF;
    EXECUTE format('REVOKE ALL ON SEQUENCE versions FROM PUBLIC, %s', roles);
    EXECUTE format(
        'REVOKE ALL ON FUNCTION make_partition, drop_partition, empty_default_partition, analyze_table, tokens_with FROM %s',
        roles
    );

    IF to_regrole('quittance_workers') IS NOT NULL THEN
        GRANT SELECT, INSERT ON events, inbox, quote_status_changes, waiting_facts, waiting_documents TO quittance_workers;
        GRANT SELECT, INSERT, UPDATE ON accounts, customers, customer_aliases, customer_requests, document_namings, emails,
                                        failed_deliveries, quote_customers, quotes, stripe_objects TO quittance_workers;
        GRANT SELECT, INSERT, UPDATE, DELETE ON document_owners, documents TO quittance_workers;
        GRANT SELECT, INSERT, UPDATE (recalled_at) ON published_quotes TO quittance_workers;
        GRANT SELECT, UPDATE (state, session_id, due_at, attempts, error, claim, claimed_until)
            ON checkout_sessions TO quittance_workers;
        GRANT SELECT, UPDATE (state, due_at, attempts, error, claim, claimed_until) ON quote_coupons TO quittance_workers;
        GRANT INSERT ON failed_delivery_history TO quittance_workers;
        GRANT INSERT, SELECT (destination, bucket) ON outbox TO quittance_workers;
        GRANT SELECT (id, account, livemode, permissions, revoked_at) ON api_tokens TO quittance_workers;
        GRANT USAGE ON SEQUENCE versions TO quittance_workers;
        GRANT EXECUTE ON FUNCTION tokens_with TO quittance_workers;
    END IF;

    IF to_regrole('quittance_relay') IS NOT NULL THEN
        GRANT SELECT, DELETE ON outbox TO quittance_relay;
        GRANT SELECT, INSERT, UPDATE (state, reason, error, traceback, fingerprint, last_failed_at, next_at)
            ON failed_deliveries TO quittance_relay;
        GRANT INSERT ON failed_delivery_history TO quittance_relay;
        GRANT SELECT ON inbox TO quittance_relay;
        GRANT EXECUTE ON FUNCTION make_partition, drop_partition, empty_default_partition, analyze_table, tokens_with
            TO quittance_relay;
    END IF;

    IF to_regrole('quittance_web') IS NOT NULL THEN
        GRANT SELECT, INSERT, UPDATE ON accounts, checkout_sessions TO quittance_web;
        GRANT SELECT, INSERT, UPDATE (recalled_at, expired_at) ON published_quotes TO quittance_web;
        GRANT SELECT, INSERT, UPDATE (state, due_at, attempts, error) ON quote_coupons TO quittance_web;
        GRANT SELECT, INSERT, DELETE, UPDATE (state_hash, browser_hash, started_at, used_at, outcome, connected)
            ON oauth_states TO quittance_web;
        GRANT SELECT ON quotes, quote_status_changes, stripe_objects TO quittance_web;
        GRANT SELECT (account, livemode, email_normalised, stripe_customer_id) ON customers TO quittance_web;
        GRANT SELECT (id, permissions, revoked_at) ON api_tokens TO quittance_web;
        GRANT INSERT, SELECT (destination, bucket) ON outbox TO quittance_web;
        GRANT EXECUTE ON FUNCTION tokens_with TO quittance_web;
    END IF;

    -- No hash of a token, no address that lets its holder pay or read a quote, no body that no command shows.
    IF to_regrole('quittance_operators') IS NOT NULL THEN
        GRANT SELECT ON accounts, customer_aliases, customers, documents, events, inbox, quote_coupons, quote_customers,
                        quote_status_changes, quotes, stripe_objects TO quittance_operators;
        GRANT SELECT (created) ON events_default, inbox_default TO quittance_operators;
        GRANT SELECT, UPDATE (state, next_at, replay_id) ON failed_deliveries TO quittance_operators;
        GRANT SELECT, INSERT ON failed_delivery_history TO quittance_operators;
        GRANT SELECT (id, account, livemode, quote_id, revision, attempt, state, session_id, created_at, expires_at, due_at,
                      attempts, error) ON checkout_sessions TO quittance_operators;
        GRANT SELECT (id, account, livemode, quote_id, event_id, email, email_normalised, name, state, due_at, error)
            ON customer_requests TO quittance_operators;
        GRANT SELECT (id, account, livemode, quote_id, event_id, revision, kind, recipient, subject, state, due_at, attempts,
                      error, created_at, sent_at) ON emails TO quittance_operators;
        GRANT SELECT (destination, stream, event_id, headers, queued_at) ON outbox TO quittance_operators;
        GRANT SELECT (id, prefix, account, livemode, permissions, note, created_at, revoked_at),
              INSERT (token_hash, prefix, account, livemode, permissions, note),
              UPDATE (revoked_at) ON api_tokens TO quittance_operators;
    END IF;
END $rights$;

-- The four tables of the task; procrastinate's own come from `procrastinate schema --apply`.
CREATE TABLE processed_events (event_id text PRIMARY KEY, processed_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE customers (id text PRIMARY KEY, email text, name text);
CREATE TABLE quotes (id text PRIMARY KEY, customer_id text, status text NOT NULL);
CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text NOT NULL, message jsonb NOT NULL);

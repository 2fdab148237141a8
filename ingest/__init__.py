"""Webhooks in: verify, publish, confirm, answer. No database: with Postgres down Stripe still gets its 200."""

"""Stripe's events by dj-stripe behind gunicorn, as its documentation has it. Runs in an environment of its own."""

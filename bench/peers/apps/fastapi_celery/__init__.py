"""Stripe's events by FastAPI, SQLAlchemy and Celery, as their documentation has it. Runs in an environment of its own."""

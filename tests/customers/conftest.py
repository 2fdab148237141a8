"""Environments for the customers worker: with a key of Stripe's and without."""

from tests.support.stripe_environment import environment, stripe_api

__all__ = ["environment", "stripe_api"]

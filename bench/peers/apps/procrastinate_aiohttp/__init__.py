"""Stripe's events by aiohttp and procrastinate, as their documentation has it. Runs in an environment of its own."""

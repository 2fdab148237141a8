"""Stand-ins for what is outside: Stripe's API and a mail server."""

"""What ingest, workers and web all speak: events, the broker, the database, the outbox, settings and logs."""

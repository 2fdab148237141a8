"""`python -m procrastinate_aiohttp.tables` creates the task's tables, beside procrastinate's own."""

import os
from pathlib import Path

import psycopg

if __name__ == "__main__":
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute(Path(__file__).with_name("tables.sql").read_bytes())

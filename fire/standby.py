"""Two Postgres: a primary, and a standby that has each commit before it is answered. One address names both."""

import asyncio
from typing import Final

import asyncpg

from dev.places import CannotStart
from dev.postgres import DATABASE, Mode, Postgres

SYNCHRONOUS: Final = "ALTER SYSTEM SET synchronous_standby_names = '*'"
ALONE: Final = "ALTER SYSTEM RESET synchronous_standby_names"
RELOAD: Final = "SELECT pg_reload_conf()"
FOLLOWED: Final = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
PATIENCE: Final = 30.0


class Pair:
    """Stands where one Postgres does: what is done to it is done to the primary of the moment."""

    def __init__(self, two: list[Postgres]) -> None:
        self.primary, self.standby = two
        self._two = tuple(two)

    @property
    def url(self) -> str:
        """Both hosts, of which the one is taken that can be written to."""
        user = self._two[0].url.rpartition("@")[0]
        places = ",".join(f"127.0.0.1:{one.port}" for one in self._two)
        return f"{user}@{places}/{DATABASE}?target_session_attrs=read-write"

    async def complete(self) -> None:
        """Return with a standby that follows, and on which every commit waits; made anew where there is none."""
        if not self.standby.is_running:
            # A standby that is not there yet would be waited for; and its copy must not wait for one, once it is promoted.
            await self._on_primary(ALONE, RELOAD)
            await asyncio.to_thread(self.standby.follow, self.primary)
            await self._on_primary(SYNCHRONOUS, RELOAD)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not await self._on_primary(FOLLOWED):
            if asyncio.get_running_loop().time() > deadline:
                raise CannotStart("the standby does not follow the primary")
            await asyncio.sleep(0.05)

    def fail_over(self) -> None:
        """The primary is killed (-9), and the standby promoted; from now on it is the primary, and alone."""
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    async def _on_primary(self, *statements: str) -> int:
        db = await asyncpg.connect(self.primary.url, timeout=5, command_timeout=20)
        try:
            return [int(await db.fetchval(statement) or 0) for statement in statements][-1]
        finally:
            await db.close()

    def start(self) -> None:
        """Start the primary."""
        self.primary.start()

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the primary."""
        self.primary.stop(mode)

    def kill(self) -> None:
        """Kill the primary."""
        self.primary.kill()

    def pause(self) -> None:
        """Freeze the primary."""
        self.primary.pause()

    def resume(self) -> None:
        """Thaw it."""
        self.primary.resume()

    def end(self) -> None:
        """Both, for good."""
        for one in self._two:
            one.stop("immediate")

"""The database, as the HTTP edge sees it: the other one of the two interfaces of `core.ports`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from greenroom.core.answering import PendingInterrupts
from greenroom.core.assistants import AssistantPatch, NewAssistant
from greenroom.core.idempotency import Keys, OnceKey
from greenroom.core.limits import UsageRecords
from greenroom.core.ports import JsonObject
from greenroom.core.scopes import Scope
from greenroom.core.searches import (
    AssistantFilter,
    CronFilter,
    DeliveryFilter,
    Page,
    RunFilter,
    ThreadFilter,
)
from greenroom.core.store import Items
from greenroom.core.telling import Feedback, Pushes
from greenroom.core.timeline import StoredLife


class Records(Items, Keys, UsageRecords, Feedback, Pushes, Protocol):
    """The database, as the HTTP edge sees it. Records are dicts in the API's shape."""

    async def ready(self) -> None:
        """Checks the connection to the database.

        Raises:
            DatabaseUnavailable: the database cannot be reached; the message names the reason.
        """
        ...

    # assistants
    async def get_assistant(self, assistant_id: str, *, scope: Scope) -> JsonObject | None: ...
    async def assistant_of_run(
        self, assistant_id: str, *, scope: Scope, fresh: bool = False
    ) -> JsonObject | None:
        """Returns an assistant with its ``revision``, as an admission compares it.

        Args:
            fresh: ask the database; otherwise the assistant may be a few seconds old.
        """
        ...

    async def create_assistant(
        self,
        new: NewAssistant,
        *,
        if_exists: Literal["raise", "do_nothing"],
        scope: Scope,
        once: OnceKey | None = None,
    ) -> JsonObject:
        """Creates an assistant; with ``do_nothing``, returns an existing one unchanged.

        Args:
            scope: of an existing assistant that is returned.
            once: as of `create_thread`.

        Raises:
            NotFound: as of `create_thread`.
            Conflict: the assistant exists, and ``if_exists`` is ``raise`` or it is outside the
                scope.
            InvalidRequest: a value cannot be stored.
        """
        ...

    async def patch_assistant(
        self, assistant_id: str, patch: AssistantPatch, *, scope: Scope
    ) -> JsonObject | None:
        """Makes a new version of an assistant, which it shows; None if it does not exist.

        Raises:
            InvalidRequest: a value cannot be stored.
        """
        ...

    async def assistant_versions(
        self,
        assistant_id: str,
        *,
        metadata: Mapping[str, Any] | None,
        limit: int,
        offset: int,
        scope: Scope,
    ) -> list[JsonObject] | None:
        """Returns versions, newest first; None when the assistant does not exist."""
        ...

    async def show_version(
        self, assistant_id: str, version: int | None, *, scope: Scope
    ) -> JsonObject | None:
        """Makes an assistant show one of its versions, whole; None if the assistant does not exist.

        It makes no new version.

        Raises:
            NotFound: the version does not exist.
        """
        ...

    async def search_assistants(
        self,
        where: AssistantFilter,
        *,
        limit: int,
        offset: int,
        sort_by: str,
        descending: bool,
        scope: Scope,
    ) -> Page: ...
    async def count_assistants(self, where: AssistantFilter, *, scope: Scope) -> int: ...

    # threads
    async def create_thread(
        self,
        thread_id: str,
        *,
        metadata: Mapping[str, Any],
        if_exists: Literal["raise", "do_nothing"],
        ttl: Mapping[str, Any] | None,
        scope: Scope,
        once: OnceKey | None = None,
    ) -> JsonObject:
        """Creates a thread; with ``do_nothing``, returns an existing one unchanged.

        Args:
            scope: of an existing thread that is returned.
            once: the key under which it is made; what was made under it is returned.

        Raises:
            NotFound: the key is not reserved any more, or the thread that it made is deleted.
            Conflict: the thread exists, and ``if_exists`` is ``raise`` or it is outside the scope;
                or it is being deleted.
            InvalidRequest: the metadata or the ttl cannot be stored.
        """
        ...

    async def get_thread(
        self, thread_id: str, *, scope: Scope, with_state: bool = True
    ) -> JsonObject | None:
        """Returns a thread.

        Args:
            with_state: with ``values`` and ``interrupts``, which may be large.
        """
        ...

    async def pending_interrupts(self, thread_id: str, *, scope: Scope) -> PendingInterrupts | None:
        """Returns what a thread waits at; None if the thread does not exist."""
        ...

    async def patch_thread(
        self,
        thread_id: str,
        *,
        metadata: Mapping[str, Any] | None,
        ttl: Mapping[str, Any] | None,
        scope: Scope,
    ) -> JsonObject | None:
        """Merges metadata, shallowly; a ttl counts from now. None if the thread does not exist."""
        ...

    async def thread_storage(self, thread_id: str, *, scope: Scope) -> JsonObject | None:
        """Returns a thread's size, with JSON counted as text; None if the thread does not exist."""
        ...

    async def search_threads(
        self,
        where: ThreadFilter,
        *,
        limit: int,
        offset: int,
        sort_by: str,
        descending: bool,
        scope: Scope,
    ) -> Page: ...
    async def count_threads(self, where: ThreadFilter, *, scope: Scope) -> int: ...

    # runs; their scope is that of their threads
    async def get_run(
        self, thread_id: str | None, run_id: str, *, scope: Scope
    ) -> JsonObject | None: ...
    async def list_runs(
        self, thread_id: str, *, limit: int | None, offset: int, status: str | None, scope: Scope
    ) -> list[JsonObject] | None:
        """Returns a thread's runs, newest first; None when the thread does not exist."""
        ...

    async def list_inputs(
        self, thread_id: str, run_id: str, *, scope: Scope
    ) -> list[JsonObject] | None:
        """Returns what was said to a run, and what is for it, in order; None without such a run."""
        ...

    async def stored_life(self, thread_id: str, run_id: str, *, scope: Scope) -> StoredLife | None:
        """Returns what is stored of a run's life, as `core.timeline` reads it; None without it."""
        ...

    # crons
    async def get_cron(self, cron_id: str, *, scope: Scope) -> tuple[JsonObject, int] | None:
        """Returns a cron and its revision (`Cron.revision`); None if it does not exist."""
        ...

    async def search_crons(
        self,
        where: CronFilter,
        *,
        limit: int,
        offset: int,
        sort_by: str,
        descending: bool,
        scope: Scope,
    ) -> Page: ...
    async def count_crons(self, where: CronFilter, *, scope: Scope) -> int: ...

    async def search_runs(
        self, where: RunFilter, *, limit: int, offset: int, descending: bool, scope: Scope
    ) -> Page:
        """Returns runs of all threads in the order of their creation."""
        ...

    async def count_runs(self, where: RunFilter, *, scope: Scope) -> int: ...

    # webhooks
    async def get_delivery(self, delivery_id: str, *, scope: Scope) -> JsonObject | None:
        """Returns a delivery whose thread is in the scope.

        Where the thread is gone, as that of a stateless run is, the run's metadata decide.
        """
        ...

    async def list_deliveries(
        self, where: DeliveryFilter, *, limit: int, offset: int, scope: Scope
    ) -> Page:
        """Returns deliveries of webhooks as `get_delivery` does, of the newest run first."""
        ...

"""The Hugging Face hub where there is no network: one short try, then its own offline mode, in which the cache still serves.

Its client tries six times over half a minute and prints each failure. That helps against a hiccup in a download; who has no
network at all is told at once. Every file that asks the hub for something calls `quick` first.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

CONNECT = 5.0  # seconds until a connection counts as impossible


@cache
def quick() -> None:
    """Give the hub's client, for the rest of this process, connections that fail once and finally until one has succeeded."""
    from huggingface_hub import set_client_factory

    set_client_factory(_client)


def _client() -> Any:
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    library = import_module(type(client).__module__.partition(".")[0])  # httpx, or what the hub's client builds on
    send, answered = client.send, [False]

    def once(request: Any, **options: Any) -> Any:
        if answered[0]:
            return send(request, **options)
        limits = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {**limits, "connect": min(limits.get("connect") or CONNECT, CONNECT)}
        try:
            response = send(request, **options)
        except (library.ConnectError, library.ConnectTimeout, library.ProxyError) as error:
            raise OfflineModeIsEnabled(f"Cannot reach {request.url.host}: {error}") from error
        answered[0] = True
        return response

    client.send = once  # type: ignore[method-assign]
    return client

"""Who may use a server, and what of it each user reaches: ``auth`` of `langgraph.json`.

| module | contents |
|---|---|
| `loading` | imports the handlers that the configuration names |
| `authenticator` | `HandlerAuthenticator`: authenticates requests, and asks the handlers |
| `calls` | calls handlers within a deadline, apart from the streams |
| `users` | what ``authenticate`` returns |
| `sdk` | what `langgraph_sdk.Auth` keeps to itself |
| `ready` | handlers without writing any: the rules by which each user reaches their own |
| `keys`, `key_file` | `api_keys`, and the keys |
| `tokens`, `key_sets` | `jwt`, and the keys of an issuer |

    "auth": {"path": "greenroom.auth:api_keys"}
    "auth": {"path": "greenroom.auth:jwt"}
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Imported late: a server that uses neither of them pays for neither.
    match name:
        case "api_keys":
            from greenroom.auth.keys import ApiKeys

            return ApiKeys()
        case "jwt":
            from greenroom.auth.tokens import JwtTokens

            return JwtTokens()
        case _:
            raise AttributeError(f"greenroom.auth has no {name!r}")

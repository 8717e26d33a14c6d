from typing_extensions import TypedDict


class State(TypedDict, total=False):
    said: str

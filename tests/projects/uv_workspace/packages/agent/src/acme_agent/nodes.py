from acme_core import State


def say(state: State) -> State:
    return {"said": "from a workspace"}

from langgraph.types import Command


def hand_off(to: str, said: str) -> Command:
    update = {"active_agent": to, "said": {said: 1}}
    return Command(goto=to, update=update, graph=Command.PARENT)

from langgraph.func import entrypoint, task


@task
def outline(topic: str) -> str:
    return f"outline of {topic}"


@task
async def section(number: int, plan: str) -> str:
    return f"{number}: {plan}"


@entrypoint()
async def essay(topic: str, *, previous: list[str] | None = None) -> list[str]:
    plan = await outline(topic)
    sections = [section(number, plan) for number in range(2)]
    return [*(previous or []), *[await each for each in sections]]

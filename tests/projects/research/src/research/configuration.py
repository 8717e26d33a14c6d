from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel, Field


class Configuration(BaseModel):
    breadth: int = Field(default=2, json_schema_extra={"x_oap_ui_config": {"type": "number"}})

    @classmethod
    def from_runnable_config(cls, config: RunnableConfig | None = None) -> "Configuration":
        given = (config or {}).get("configurable", {})
        return cls(**{key: given[key] for key in cls.model_fields if key in given})

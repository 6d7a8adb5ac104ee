"""The base of every part of fleet.yaml."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of fleet.yaml. An unknown field is an error: it is most often a misspelt one.

    Field docstrings become the descriptions in the JSON Schema and in the docs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

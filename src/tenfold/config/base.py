"""What every section of campaign.toml has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of campaign.toml: unknown keys refused, nothing converted, values never change after loading."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

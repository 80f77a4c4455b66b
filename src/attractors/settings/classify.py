"""The section `classify` of a sweep, and the thresholds at the top level of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from attractors.distances.thresholds import given_thresholds
from attractors.settings.section import Section

Threshold = Literal["auto"] | Annotated[float, Field(ge=0, allow_inf_nan=False)] | dict[Any, Any]


class Classification(Section):
    """The thresholds of Eqs. 9 and 10: a distance, auto, or a mapping as `given_thresholds` reads it."""

    delta_m: Literal["ratio"] | Threshold = Field(
        "auto", description="Memorized at or below this distance to S (Eq. 9); ratio: where d1 / d2 < 1/3 instead."
    )
    delta_s: Threshold = Field("auto", description="Spurious at or below this distance within S' (Eq. 10).")

    @field_validator("delta_m", "delta_s", mode="before")
    @classmethod
    def _threshold(cls, value: Threshold, info: ValidationInfo) -> Threshold:
        given_thresholds(value, str(info.field_name), "", [])  # of sweeps and K, which classify checks by their names
        return value

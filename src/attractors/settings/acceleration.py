"""How the network of `train` and `sample` computes: settings that both sections have."""

from typing import Literal

from pydantic import Field

from attractors.settings.section import Section


class Computation(Section):
    """Precision, memory layout and compilation. What is left open is decided by the device."""

    precision: Literal["auto", "float32", "tf32", "bfloat16"] = Field(
        "auto", description="auto: tf32 on CUDA, float32 elsewhere."
    )
    channels_last: bool | None = Field(None, description="Memory layout.  [default: with --compile]")
    compile: bool | None = Field(None, description="torch.compile.  [default: on CUDA, with a compiler]")

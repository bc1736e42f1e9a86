"""One metric as one row: all that the rest of the house says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]
TRAINING = "training"
"""Family of what is logged over training; its keys are the logged names."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A metric. Its value is a number; which protocol made it is on the number's card."""

    family: str
    """generation, reconstruction, alignment, ...: the suite that measures it, or `training`."""
    key: str
    """Name in files and MLflow, without extractor. `*` and `?` stand for the parts of a name that
    vary, such as a noise level."""
    meaning: str
    """One sentence."""
    name: str = ""
    """Name as it is shown; empty = the key."""
    heading: str = ""
    """Heading in the report's table of runs where that is another one than the name."""
    unit: str = ""
    """Unit, such as dB or %; empty for plain numbers."""
    digits: int = 4
    """Significant digits that are shown."""
    better: Direction | None = None
    """Values that are better; None for what describes a model: costs, curves, entropies."""
    paper: str = ""
    """Name in the paper's tables; empty where the paper has no such figure."""
    elsewhere: str = ""
    """Name on another extractor than the paper's, as it is shown; lower case is its key."""
    column: Literal["", "runs", "tables"] = ""
    """Place in the report: a column of the table of runs and of the paper's tables, of those
    tables alone, or (empty) of neither."""
    judges: int = 0
    """Rank among the metrics that may speak for the family when runs are compared: 1 is asked
    first, the next one where it was not measured; 0 never speaks."""
    domains: tuple[str, ...] = ()
    """Kinds of domains whose samples it is measured on; empty = all."""
    logged: bool = False
    """True if training measures it as well, as eval/<key> on held-out samples."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key)
        object.__setattr__(self, "heading", self.heading or self.name)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the metric: its own, and the one that it has on another extractor."""
        return (self.key, self.elsewhere.lower()) if self.elsewhere else (self.key,)

    @property
    def names(self) -> tuple[str, ...]:
        """Keys, and in small letters the shown name and the paper's."""
        return (*self.keys, self.name.lower(), *filter(None, (self.paper.lower(),)))

    @property
    def logged_name(self) -> str:
        """Name under which training logs it; empty when it does not."""
        if self.family == TRAINING:
            return self.key
        return f"eval/{self.key}" if self.logged else ""

    @property
    def better_words(self) -> str:
        """Direction in words; empty for a metric without one."""
        return f"{self.better} is better" if self.better else ""

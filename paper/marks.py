"""Where numbers come from: the words above every table and figure."""

MEASURED = "measured here"
PROJECTED = "projected"
SIMULATED = "simulated"
COMPUTED = "computed from counts"
#: Step times projected, coding measured, transfers by the links' model.
LINKS = "projected steps, transfers by the links' model"

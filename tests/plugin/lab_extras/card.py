"""How a tally looks in a notebook and on a terminal."""

from lab_extras.tally import Tally
from workbench.core.show import card, terminal


@card(Tally)
def tally_card(tally):
    rows = "".join(f"<tr><td>{kind}</td><td>{n}</td></tr>" for kind, n in sorted(tally.counts.items()))
    return f"<table>{rows}</table>"


@terminal(Tally)
def tally_lines(tally):
    return [f"{sum(tally.counts.values())} edges", tally.counts]

"""What a scenario gives: named figures. `scenario` names it."""

Figures = dict[str, float | int | str]

"""What is measured at one point, each `(system, x, seconds) -> figures, each with its x`, alone in a fresh process."""

Figures = list[dict[str, float]]

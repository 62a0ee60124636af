"""Those who look and never decide: what a run shows of itself."""

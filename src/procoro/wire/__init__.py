"""How calls and outcomes go between two processes, as bytes."""

"""Programs that have a pool, for the faults that strike the program itself: `python -m ... SYSTEM`."""

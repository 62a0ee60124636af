"""procoro's models, for calls that wait, beside what one would write by hand, and others.

The harness is `benchmarks.compare`. What runs in measured processes: measures, systems, calls, and in `hand` the
pairs of processes that a user would write without a pool of procoro's.
"""

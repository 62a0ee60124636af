"""procoro's server beside others: what a request costs the server, and what an idle connection does.

The harness is `benchmarks.compare`. What runs in measured processes: measures; the servers themselves (servers) and the
load on them (load.c, compiled for the run) are processes of their own.
"""

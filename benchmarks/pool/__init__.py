"""procoro.Pool beside other process pools: throughput, latency, long calls, arrays, lazy inputs, start-up, memory.

The harness is `benchmarks.compare`. What runs in measured processes (child, task, workload, systems, measures) imports
nothing that it can do without: a module that is already loaded makes a system look quicker to start, or fatter, than
it is.
"""

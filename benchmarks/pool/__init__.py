"""procoro.Pool beside other process pools: throughput, latency, start-up, memory.

Two sides. The harness (command, catalogue, rounds, summary, table, plot, archive) starts a fresh process for
every single figure. What runs there (child, task, workload, systems, measures) imports nothing that it can
do without: a module that is already loaded makes a system look quicker to start, or fatter, than it is.
"""

"""What each system does when something breaks: the same faults, judged by the same rules, each in a fresh process.

The harness (command, catalogue, cells, processes, table) starts a process for every cell. What runs there
(child, systems, expect, calls, programs and the faults themselves: deaths, travel, streams, lifetime, parent) says
what came of it.
"""

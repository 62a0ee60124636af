"""How a pool grows: with workers, with the length of calls, with what they carry, with streams, with time.

A process of its own for every point (child); what runs in it is in `studies`, with the systems of `benchmarks.pool`.
The harness (command, catalogue, lines, sentences, plot) draws lines and says what is to be seen.
"""

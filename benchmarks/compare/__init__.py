"""One thing beside others: what the subjects share that compare measures and judge goals.

The harness (command, rounds) starts a fresh process for every single figure (child), by what a catalogue says, and
shows what came of it (summary, table, plot, goals).
"""

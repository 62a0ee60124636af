"""One thing beside others: what the subjects share that compare measures and judge goals.

The harness (command) starts a fresh process for every single figure (child), by what a catalogue says.
"""

"""procoro beside its peers: `python -m benchmarks pool --quick` says what a call costs, `python -m benchmarks faults`
what happens when something breaks. Not part of the library."""

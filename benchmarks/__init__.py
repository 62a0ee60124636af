"""What procoro costs, beside its peers: `python -m benchmarks pool --quick`. Not part of the library."""

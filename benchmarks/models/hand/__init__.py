"""What one would write without a pool of processes: so many processes, and in each a library that runs many calls."""

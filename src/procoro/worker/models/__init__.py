"""How a worker runs the calls of a span: one small file each."""

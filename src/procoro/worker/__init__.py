"""What runs in the child: the template that forks workers, the worker's loop, and its models."""

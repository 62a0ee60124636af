"""Queues, pipes and locks between processes, which survive the death of whoever uses them."""

"""procoro's queues, pipes, locks and processes beside multiprocessing's and others'.

The harness (command, catalogue) starts a fresh process for every single figure. What runs there (child, measures,
systems) forks by multiprocessing's fork context, so that only the queue, the pipe or the lock differs.
"""

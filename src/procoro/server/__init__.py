"""A socket server on every core, one coroutine a connection."""

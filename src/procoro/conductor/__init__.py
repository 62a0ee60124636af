"""Where the pure part meets the world: events in, effects out, for one pool."""

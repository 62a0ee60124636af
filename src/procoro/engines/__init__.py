"""Where workers live: start one, send it spans, take back, kill; and tell what happens to it."""

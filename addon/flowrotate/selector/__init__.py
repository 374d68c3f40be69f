"""Which credential is next: states, cooldowns, limits, strategies. Pure."""

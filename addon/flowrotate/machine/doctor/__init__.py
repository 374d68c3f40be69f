"""`flow-rotate doctor`: what may be wrong on this machine, and for each, what to do about it."""

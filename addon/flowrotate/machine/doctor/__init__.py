"""`flow-rotate doctor`: what may be wrong on this machine, and the mend of each."""

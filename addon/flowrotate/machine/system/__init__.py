"""`flow-rotate system on|off|status`: what it changes on this machine, and how it puts it back."""

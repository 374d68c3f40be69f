"""The machine around the proxy: who is to use it, whom they trust, and who starts it."""

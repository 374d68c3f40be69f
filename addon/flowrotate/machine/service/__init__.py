"""The proxy as a service of the user's own, kept running by what the platform has for it."""

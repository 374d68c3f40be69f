"""`flow-rotate serve`: mitmproxy with the addon, headless, for daily use."""

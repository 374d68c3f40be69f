"""`flow-rotate serve`: mitmproxy with the addon and without a face, for daily use."""

"""From frozen credentials to their secrets: files, variables, commands, keyrings. IO."""

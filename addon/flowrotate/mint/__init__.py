"""Credentials that are made here: signed JWTs, and tokens of an OAuth 2.0 token endpoint. IO."""

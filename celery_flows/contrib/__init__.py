"""Homes in other frameworks; each is imported by its users alone."""

"""What may happen to jobs and batches: one transition a file, each one transaction, each safe to call twice.

A transition returns the jobs that became ready; its caller publishes them, after the commit.
"""

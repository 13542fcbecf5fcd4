"""How fast celery-flows is beside plain Celery: `python -m benchmarks fanout drain`."""

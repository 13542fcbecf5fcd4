"""The one door to the database: the only place that knows SQL."""

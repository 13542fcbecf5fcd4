"""Where Celery is met: capturing calls, publishing messages, claiming and settling in workers."""

"""What is done for an order."""

from celery import shared_task
from django.db.models import F

from celery_flows import current_job
from orders.models import Item, Order


@shared_task
def pack(item_id: int) -> None:
    """Pack an item: its row is committed together with the job's outcome, so it is packed once."""
    with current_job().transaction():
        Item.objects.filter(id=item_id).update(packed=F("packed") + 1)


@shared_task
def send(batch_id: str) -> None:
    """Everything is packed."""
    Order.objects.filter(batch_id=batch_id).update(is_sent=True)

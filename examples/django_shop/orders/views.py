"""Placing an order, and how far it has come."""

import json

from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from celery_flows import Batch
from orders.models import Order
from orders.tasks import pack, send


@csrf_exempt
@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Save an order and start its batch: both are committed with the request, or neither."""
    said = json.loads(request.body)
    batch = Batch.create(description=f"Order of {said['customer']}").on("complete", send)
    with batch.jobs():
        order = Order(customer=said["customer"], batch_id=batch.id)
        order.save()
        for name in said["items"]:
            pack.delay(order.items.create(name=name).id)
    return JsonResponse({"order": order.id, "batch": batch.id}, status=202)


@require_GET
def show(request: HttpRequest, number: int) -> JsonResponse:
    """How far an order has come."""
    order = get_object_or_404(Order, id=number)
    batch = Batch.get(order.batch_id)
    return JsonResponse({"status": batch.status, "is_sent": order.is_sent, **batch.progress.to_dict()})

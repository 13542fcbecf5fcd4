"""What is ordered, and by whom."""

from django.db import models
from django.db.models import Q


class Order(models.Model):
    """An order, and the batch that packs it."""

    customer = models.CharField(max_length=100)
    batch_id = models.CharField(max_length=36)
    is_sent = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(customer=""), name="somebody_orders")]


class Item(models.Model):
    """One thing of an order."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="items")
    name = models.CharField(max_length=100)
    packed = models.IntegerField(default=0)

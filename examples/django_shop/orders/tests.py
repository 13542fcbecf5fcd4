"""The project's own tests: `python manage.py test`."""

from django.test import TestCase, TransactionTestCase, override_settings

from celery_flows.contrib.django.models import FlowBatch
from celery_flows.testing import in_memory
from orders.models import Item, Order

ORDER = {"customer": "Ann", "items": ["tea", "cup"]}


class OrderTest(TestCase):
    """Orders, whose jobs run when the test says so."""

    def setUp(self) -> None:
        """Do without a broker and a worker."""
        self.worker = self.enterContext(in_memory())

    def test_an_order_is_packed_and_sent(self) -> None:
        """Every item is packed once, and then the order is sent."""
        placed = self.client.post("/orders", ORDER, "application/json").json()
        self.assertEqual(FlowBatch.objects.get().jobs.pending().count(), 2)
        self.worker.drain()
        self.assertEqual([item.packed for item in Item.objects.all()], [1, 1])
        shown = self.client.get(f"/orders/{placed['order']}").json()
        self.assertEqual((shown["status"], shown["is_sent"], shown["total"]), ("complete", True, 2))

    def test_a_refused_order_has_no_batch(self) -> None:
        """An order of nobody is refused, and so is its batch."""
        self.client.raise_request_exception = False
        self.assertEqual(
            self.client.post("/orders", {**ORDER, "customer": ""}, "application/json").status_code, 500
        )
        self.assertEqual((FlowBatch.objects.count(), Order.objects.count()), (0, 0))


@override_settings(CELERY_TASK_ALWAYS_EAGER=True)
class RequestTest(TransactionTestCase):
    """The same with real commits, and with an eager app: jobs run where the request's transaction is committed."""

    def test_an_order_is_sent_by_its_request(self) -> None:
        """The jobs run once the request's transaction is committed."""
        placed = self.client.post("/orders", ORDER, "application/json").json()
        self.assertTrue(self.client.get(f"/orders/{placed['order']}").json()["is_sent"])

    def test_each_test_begins_with_nothing(self) -> None:
        """What the other has left is flushed."""
        self.assertEqual((FlowBatch.objects.count(), Order.objects.count()), (0, 0))

"""Orders and their items."""

from django.db import migrations, models

ID = models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")


class Migration(migrations.Migration):
    """Makes the tables."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Order",
            [
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("customer", models.CharField(max_length=100)),
                ("batch_id", models.CharField(max_length=36)),
                ("is_sent", models.BooleanField(default=False)),
            ],
            {"constraints": [models.CheckConstraint(condition=~models.Q(customer=""), name="somebody_orders")]},
        ),
        migrations.CreateModel(
            "Item",
            [
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("name", models.CharField(max_length=100)),
                ("packed", models.IntegerField(default=0)),
                ("order", models.ForeignKey("orders.Order", models.CASCADE, related_name="items")),
            ],
        ),
    ]

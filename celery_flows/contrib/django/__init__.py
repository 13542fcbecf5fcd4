"""At home in Django: its database, its transactions, its migrations, models and admin."""

"""Datasets keep what is known of each column."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="dataset",
            name="facts",
            field=models.JSONField(default=dict),
        ),
    ]

"""Samples know which weights drew them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0007_placement")]

    operations = [
        migrations.AddField("sample", "policy_version", models.BigIntegerField(null=True)),
    ]

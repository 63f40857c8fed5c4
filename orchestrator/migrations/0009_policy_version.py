"""Samples know which weights drew them."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0008_step_spans")]

    operations = [
        migrations.AddField("sample", "policy_version", models.BigIntegerField(null=True)),
    ]

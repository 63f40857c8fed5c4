from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestrator", "0017_judges")]

    operations = [
        migrations.AddField(
            model_name="run",
            name="promotion",
            field=models.JSONField(blank=True, default=dict),
        )
    ]

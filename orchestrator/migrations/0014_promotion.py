from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestrator", "0013_registry")]

    operations = [
        migrations.AddField(
            model_name="comparison",
            name="promotion",
            field=models.JSONField(blank=True, default=dict),
        )
    ]

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestrator", "0016_playgrounds")]

    operations = [
        migrations.AddField(
            model_name="comparison",
            name="judges",
            field=models.JSONField(blank=True, default=list),
        )
    ]

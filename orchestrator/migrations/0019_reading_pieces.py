from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orchestrator", "0018_promotion_after")]

    operations = [
        migrations.AddField(
            model_name="reading",
            name="pieces",
            field=models.JSONField(default=list),
        ),
    ]

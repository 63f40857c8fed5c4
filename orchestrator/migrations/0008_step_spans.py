"""The execution plan: which phases of a step were at work when."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0007_placement")]

    operations = [
        migrations.CreateModel(
            name="StepSpans",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("attempt", models.PositiveIntegerField()),
                ("seq", models.BigIntegerField()),
                ("process", models.CharField(max_length=40)),
                ("step", models.BigIntegerField()),
                ("steps", models.BigIntegerField(default=1)),
                ("start", models.FloatField()),
                ("spans", models.JSONField()),
                ("folded", models.PositiveIntegerField(default=0)),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="spans",
                        to="orchestrator.run",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("run", "attempt", "seq"), name="step_spans_once"
                    )
                ],
            },
        ),
    ]

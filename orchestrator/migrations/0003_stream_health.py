"""The truth panel: what became of pushes, and what ship says of its spool and its clock."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0002_dataset_facts")]

    operations = [
        migrations.CreateModel(
            name="ShipReport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("attempt", models.PositiveIntegerField()),
                ("received", models.DateTimeField()),
                ("journals", models.JSONField(default=dict)),
                ("clock_offset", models.FloatField(null=True)),
                ("clock_within", models.FloatField(null=True)),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="ship_reports", to="orchestrator.run")),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("run", "attempt"), name="ship_report_once")],
            },
        ),
        migrations.CreateModel(
            name="StreamHealth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("attempt", models.PositiveIntegerField()),
                ("source", models.CharField(max_length=16)),
                ("pushes", models.BigIntegerField(default=0)),
                ("repeated_pushes", models.BigIntegerField(default=0)),
                ("repeated_lines", models.BigIntegerField(default=0)),
                ("early_pushes", models.BigIntegerField(default=0)),
                ("early_lines", models.BigIntegerField(default=0)),
                ("refused_pushes", models.BigIntegerField(default=0)),
                ("refused_why", models.CharField(default="", max_length=300)),
                ("highest", models.BigIntegerField(default=0)),
                ("lags", django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), default=list, size=None)),
                ("run", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="stream_health", to="orchestrator.run")),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("run", "attempt", "source"), name="stream_health_once")],
            },
        ),
    ]

"""Placement: places in the line, room that is held, runs that give way, and what an attempt was given."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0006_life_cycle")]

    operations = [
        migrations.AddField("run", "preemptible", models.BooleanField(default=False)),
        migrations.AddField("run", "place", models.PositiveIntegerField(null=True)),
        migrations.AddField(
            "run",
            "held",
            django.contrib.postgres.fields.ArrayField(
                models.CharField(max_length=12), blank=True, default=list
            ),
        ),
        migrations.AddField("run", "has_turn", models.BooleanField(default=False)),
        migrations.AddField("run", "starts_by", models.DateTimeField(null=True)),
        migrations.AddField(
            "run", "leaves_for", models.CharField(blank=True, default="", max_length=12)
        ),
        migrations.AddField("attempt", "slots", models.PositiveIntegerField(default=1)),
        migrations.AddField(
            "attempt",
            "gpus",
            django.contrib.postgres.fields.ArrayField(
                models.IntegerField(), blank=True, default=list
            ),
        ),
    ]

"""Members: the further machines of an attempt, and where the first one awaits them."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0009_policy_version")]

    operations = [
        migrations.AddField("attempt", "rendezvous", models.JSONField(default=dict)),
        migrations.CreateModel(
            name="Member",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("index", models.PositiveIntegerField()),
                ("slots", models.PositiveIntegerField(default=1)),
                (
                    "gpus",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.IntegerField(), blank=True, default=list, size=None
                    ),
                ),
                ("lease_digest", models.CharField(default="", max_length=64)),
                ("claimed", models.DateTimeField(null=True)),
                ("last_seen", models.DateTimeField(null=True)),
                ("ended", models.DateTimeField(null=True)),
                ("cause", models.CharField(blank=True, default="", max_length=24)),
                (
                    "attempt",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="orchestrator.attempt",
                    ),
                ),
                (
                    "node",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="members",
                        to="orchestrator.node",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            "member",
            models.UniqueConstraint(fields=("attempt", "index"), name="member_once"),
        ),
    ]

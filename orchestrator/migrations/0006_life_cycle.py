"""Life cycle: restart policies, live requests, forks that know their parent, archive and removal."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0005_nodes")]

    operations = [
        migrations.AddField("run", "archived", models.DateTimeField(null=True)),
        migrations.AddField("run", "asks", models.JSONField(default=dict)),
        migrations.AddField("run", "policy", models.JSONField(default=dict)),
        migrations.AddField("run", "overrides", models.JSONField(default=dict)),
        migrations.AddField("run", "voids", models.JSONField(default=list)),
        migrations.AddField(
            "run",
            "excluded_nodes",
            django.contrib.postgres.fields.ArrayField(models.CharField(max_length=64), default=list),
        ),
        migrations.AddField(
            "run",
            "parent",
            models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="forks", to="orchestrator.run"
            ),
        ),
        migrations.AddField("run", "parent_step", models.BigIntegerField(null=True)),
        migrations.AddField("run", "parent_name", models.CharField(blank=True, default="", max_length=120)),
        migrations.CreateModel(
            name="Removal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("run_id", models.CharField(db_index=True, max_length=12)),
                ("name", models.CharField(max_length=120)),
                ("by", models.CharField(max_length=150)),
                (
                    "checkpoints",
                    django.contrib.postgres.fields.ArrayField(models.CharField(max_length=12), default=list),
                ),
                ("rows", models.JSONField(default=dict)),
                ("asked", models.DateTimeField(auto_now_add=True)),
                ("done", models.DateTimeField(null=True)),
                ("bytes", models.BigIntegerField(null=True)),
                (
                    "node",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="removals",
                        to="orchestrator.node",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("run_id", "node"), name="removal_once", nulls_distinct=False)
                ],
            },
        ),
    ]

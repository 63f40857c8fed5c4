"""The registry: tags, pins, stages and notes of checkpoints, external models, and who changed what."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import orchestrator.models.ids

STAGES = [("", "none"), ("candidate", "candidate"), ("approved", "approved"), ("retired", "retired")]


def registered():
    """The fields that both kinds of models have."""
    return [
        (
            "tags",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=64), blank=True, default=list, size=None
            ),
        ),
        ("pinned", models.BooleanField(default=False)),
        ("stage", models.CharField(blank=True, choices=STAGES, default="", max_length=12)),
        ("stage_by", models.CharField(blank=True, default="", max_length=150)),
        ("stage_at", models.DateTimeField(null=True)),
        ("note", models.TextField(blank=True, default="")),
    ]


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0012_ballots")]

    operations = [
        *(migrations.AddField("checkpoint", name, field) for name, field in registered()),
        migrations.AddField("checkpoint", "deleted_by", models.CharField(blank=True, default="", max_length=150)),
        migrations.AddField(
            "checkpoint",
            "leaves",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=12), blank=True, default=list, size=None
            ),
        ),
        migrations.AddField("checkpoint", "freed", models.BigIntegerField(null=True)),
        migrations.AlterField("checkpoint", "sha256", models.CharField(db_index=True, max_length=64)),
        migrations.CreateModel(
            name="External",
            fields=[
                *registered(),
                (
                    "id",
                    models.CharField(
                        default=orchestrator.models.ids.new_id, max_length=12, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=120)),
                ("kind", models.CharField(choices=[("path", "folder"), ("hub", "hub")], max_length=8)),
                ("source", models.CharField(max_length=1000)),
                ("revision", models.CharField(blank=True, default="", max_length=120)),
                ("everywhere", models.BooleanField(default=False)),
                ("sha256", models.CharField(blank=True, default="", max_length=64)),
                ("bytes", models.BigIntegerField(null=True)),
                ("facts", models.JSONField(default=dict)),
                ("read", models.DateTimeField(null=True)),
                ("created", models.DateTimeField(auto_now_add=True)),
                (
                    "node",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="externals",
                        to="orchestrator.node",
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="externals",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"verbose_name": "external model"},
        ),
        migrations.CreateModel(
            name="RegistryChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("subject", models.CharField(db_index=True, max_length=24)),
                ("title", models.CharField(max_length=200)),
                ("what", models.CharField(max_length=16)),
                ("old", models.JSONField(null=True)),
                ("new", models.JSONField(null=True)),
                ("by", models.CharField(max_length=150)),
                ("at", models.DateTimeField(auto_now_add=True, db_index=True)),
                ("why", models.CharField(blank=True, default="", max_length=300)),
            ],
        ),
    ]

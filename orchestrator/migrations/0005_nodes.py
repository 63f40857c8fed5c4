"""Nodes: cordon, labels of their own, removal, readings; checkpoints that the server keeps a copy of."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0004_points")]

    operations = [
        migrations.AddField(model_name="checkpoint", name="stored", field=models.CharField(blank=True, default="", max_length=64)),
        migrations.AddField(model_name="node", name="cordoned", field=models.BooleanField(default=False)),
        migrations.AddField(model_name="node", name="own_labels", field=models.JSONField(default=list)),
        migrations.AddField(model_name="node", name="removed", field=models.DateTimeField(null=True)),
        migrations.AlterField(model_name="node", name="name", field=models.CharField(max_length=64)),
        migrations.AddConstraint(
            model_name="node",
            constraint=models.UniqueConstraint(
                condition=models.Q(("removed", None)), fields=("name",), name="node_name_once"
            ),
        ),
        migrations.CreateModel(
            name="NodeReading",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("time", models.DateTimeField()),
                ("cpu", models.FloatField(null=True)),
                ("memory", models.FloatField(null=True)),
                ("gpu", models.FloatField(null=True)),
                ("gpu_low", models.FloatField(null=True)),
                ("gpu_high", models.FloatField(null=True)),
                ("gpu_memory", models.FloatField(null=True)),
                ("power", models.FloatField(null=True)),
                ("temperature", models.FloatField(null=True)),
                ("node", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="readings", to="orchestrator.node")),
            ],
            options={"indexes": [models.Index(fields=["node", "time"], name="node_reading_time")]},
        ),
    ]

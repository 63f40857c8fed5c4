"""Tell rows that a comparison gave its runs from data that people brought."""

from django.db import migrations, models


def mark(apps, schema_editor):
    """Those that are there already: rows.jsonl of a run that a comparison launched."""
    Run = apps.get_model("orchestrator", "Run")
    Dataset = apps.get_model("orchestrator", "Dataset")
    named = set()
    for spec in Run.objects.filter(arm_runs__isnull=False).values_list("spec", flat=True):
        named |= {one.get("source", "") for one in spec.get("data", {}).get("eval", [])}
    Dataset.objects.filter(pk__in=named, filename="rows.jsonl").update(made_for="comparison")


class Migration(migrations.Migration):
    dependencies = [("orchestrator", "0014_promotion")]

    operations = [
        migrations.AddField(
            model_name="dataset",
            name="made_for",
            field=models.CharField(blank=True, default="", max_length=24),
        ),
        migrations.RunPython(mark, migrations.RunPython.noop),
    ]

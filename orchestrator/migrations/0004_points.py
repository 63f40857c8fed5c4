"""Points move from one row each into chunks, which the control worker packs into blocks."""

from itertools import groupby

import django.db.models.deletion
import numpy as np
from django.db import migrations, models

from orchestrator import blocks

LINES = 2000  # of a chunk
EXTERNAL = {"chunk": ["data"], "block": ["picks", "seqs", "steps", "times", "values"]}


def points_move(apps, schema_editor):
    """Write the points of each attempt as chunks."""
    Point, Chunk = (apps.get_model("orchestrator", name) for name in ("Point", "Chunk"))
    attempts = Point.objects.order_by().values_list("series__run_id", "attempt").distinct()
    for run_id, attempt in list(attempts):
        rows = Point.objects.filter(series__run_id=run_id, attempt=attempt).order_by("seq")
        fields = rows.values_list("seq", "step", "time", "series_id", "value")
        held = []
        for (seq, step, time), values in groupby(fields.iterator(), key=lambda row: row[:3]):
            held.append((seq, step, time, [row[3:] for row in values]))
            if len(held) == LINES:
                chunk_write(Chunk, run_id, attempt, held)
                held = []
        if held:
            chunk_write(Chunk, run_id, attempt, held)


def chunk_write(Chunk, run_id, attempt, held):
    heads = np.array([(seq, step, time, len(values)) for seq, step, time, values in held], blocks.LINE)
    values = np.array([value for line in held for value in line[3]], blocks.VALUE)
    Chunk.objects.create(
        run_id=run_id,
        attempt=attempt,
        first=held[0][0],
        last=held[-1][0],
        lines=len(held),
        points=len(values),
        data=blocks.chunk_pack(heads, values),
    )


class Migration(migrations.Migration):

    dependencies = [("orchestrator", "0003_stream_health")]

    operations = [
        migrations.AddField("stream", "packed", models.BigIntegerField(default=0)),
        migrations.CreateModel(
            name="Chunk",
            fields=[
                ("pk", models.CompositePrimaryKey("run", "attempt", "first", blank=True, editable=False, primary_key=True, serialize=False)),
                ("attempt", models.IntegerField()),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("lines", models.IntegerField()),
                ("points", models.IntegerField()),
                ("data", models.BinaryField()),
                ("run", models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="orchestrator.run")),
            ],
        ),
        migrations.CreateModel(
            name="Block",
            fields=[
                ("pk", models.CompositePrimaryKey("series", "attempt", "start", blank=True, editable=False, primary_key=True, serialize=False)),
                ("attempt", models.IntegerField()),
                ("start", models.BigIntegerField()),
                ("count", models.IntegerField()),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("step_low", models.BigIntegerField()),
                ("step_high", models.BigIntegerField()),
                ("rising", models.BooleanField()),
                ("time_low", models.FloatField()),
                ("time_high", models.FloatField()),
                ("missing", models.IntegerField()),
                ("picks", models.BinaryField()),
                ("seqs", models.BinaryField()),
                ("steps", models.BinaryField()),
                ("times", models.BinaryField()),
                ("values", models.BinaryField()),
                ("series", models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="orchestrator.series")),
            ],
        ),
        # Floats do not get smaller by PostgreSQL's compression; trying costs more than storing.
        *[
            migrations.RunSQL(
                f'ALTER TABLE orchestrator_{table} ALTER COLUMN "{column}" SET STORAGE EXTERNAL',
                migrations.RunSQL.noop,
            )
            for table, columns in EXTERNAL.items()
            for column in columns
        ],
        # Chunks come and go all the time: their space is to be used again soon.
        migrations.RunSQL(
            "ALTER TABLE orchestrator_chunk SET (autovacuum_vacuum_scale_factor = 0, "
            "autovacuum_vacuum_threshold = 2000, toast.autovacuum_vacuum_scale_factor = 0, "
            "toast.autovacuum_vacuum_threshold = 20000)",
            migrations.RunSQL.noop,
        ),
        migrations.RunPython(points_move, migrations.RunPython.noop),
        migrations.DeleteModel("Point"),
    ]

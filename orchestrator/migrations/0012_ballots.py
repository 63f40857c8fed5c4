import django.db.models.deletion
import orchestrator.models.ids
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('orchestrator', '0011_comparisons'),
    ]

    operations = [
        migrations.CreateModel(
            name='Ballot',
            fields=[
                ('index', models.PositiveIntegerField(default=0)),
                ('created', models.DateTimeField(auto_now_add=True)),
                ('id', models.CharField(default=orchestrator.models.ids.new_id, max_length=12, primary_key=True, serialize=False)),
                ('gold', models.CharField(blank=True, choices=[('left', 'Left'), ('right', 'Right'), ('tie', 'Tie'), ('both-bad', 'Both Bad')], default='', max_length=8)),
                ('closed', models.DateTimeField(blank=True, null=True)),
                ('comparison', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='%(class)ss', to='orchestrator.comparison')),
                ('item', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='%(class)ss', to='orchestrator.item')),
                ('left', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='%(class)ss_left', to='orchestrator.arm')),
                ('right', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='%(class)ss_right', to='orchestrator.arm')),
                ('voter', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='ballots', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='GoldMark',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('index', models.PositiveIntegerField(default=0)),
                ('created', models.DateTimeField(auto_now_add=True)),
                ('better', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='gold_marks_better', to='orchestrator.arm')),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='gold_marks', to=settings.AUTH_USER_MODEL)),
                ('comparison', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='gold_marks', to='orchestrator.comparison')),
                ('item', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='gold_marks', to='orchestrator.item')),
                ('worse', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='gold_marks_worse', to='orchestrator.arm')),
            ],
        ),
        migrations.AddConstraint(
            model_name='ballot',
            constraint=models.UniqueConstraint(condition=models.Q(('closed', None)), fields=('comparison', 'voter'), name='ballot_open_once'),
        ),
        migrations.AddConstraint(
            model_name='goldmark',
            constraint=models.UniqueConstraint(fields=('item', 'better', 'worse', 'index'), name='gold_mark_once'),
        ),
    ]

"""Routes of the pages. The API's routes are in `orchestrator.api`, the sockets' in `orchestrator.routing`."""

from __future__ import annotations

from django.urls import path, register_converter
from django.views.generic import RedirectView

from orchestrator.views import (
    account,
    catalog,
    checkpoints,
    compare,
    compare_judges,
    compare_new,
    compare_tabs,
    datasets,
    externals,
    login,
    new_run,
    nodes,
    play,
    queue,
    retention,
    run,
    run_parts,
    run_steer,
    runs,
    search,
    votes,
)


class PublicId:
    """An id as `models.ids.new_id` makes them."""

    regex = "[a-z2-7]{12}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(PublicId, "id")

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="runs"), name="home"),
    path("login/", login.SignIn.as_view(), name="login"),
    path("login/link/<str:token>/", login.link, name="login-link"),
    path("logout/", login.SignOut.as_view(), name="logout"),
    path("account/", account.page, name="account"),
    path("account/tokens/", account.token_create, name="token-create"),
    path("account/tokens/<int:token_id>/revoke/", account.token_revoke, name="token-revoke"),
    path("search/", search.page, name="search"),
    path("new/", new_run.page, name="new-run"),
    path("new/form/", new_run.form, name="new-run-form"),
    path("new/review/", new_run.review, name="new-run-review"),
    path("methods/", catalog.page, name="methods"),
    path("queue/", queue.page, name="queue"),
    path("queue/rows/", queue.rows, name="queue-rows"),
    path("nodes/", nodes.page, name="nodes"),
    path("nodes/cards/", nodes.cards, name="nodes-cards"),
    path("nodes/invite/", nodes.invite, name="node-invite"),
    path("nodes/<id:node_id>/do/<slug:verb>/", nodes.act, name="node-act"),
    path("checkpoints/", checkpoints.page, name="checkpoints"),
    path("checkpoints/compare/", checkpoints.compare, name="checkpoints-compare"),
    path("checkpoints/register/", externals.register, name="external-register"),
    path("checkpoints/retention/", retention.page, name="retention"),
    path("checkpoints/retention/apply/", retention.apply, name="retention-apply"),
    path("checkpoints/<id:checkpoint_id>/", checkpoints.one, name="checkpoint"),
    path("checkpoints/<id:checkpoint_id>/change/", checkpoints.change, name="checkpoint-change"),
    path("checkpoints/<id:checkpoint_id>/delete/", checkpoints.delete, name="checkpoint-delete"),
    path("externals/<id:external_id>/", externals.one, name="external"),
    path("externals/<id:external_id>/change/", externals.change, name="external-change"),
    path("externals/<id:external_id>/read/", externals.reread, name="external-read"),
    path("externals/<id:external_id>/delete/", externals.delete, name="external-delete"),
    path("compare/", compare.page, name="compare"),
    path("compare/new", compare_new.page, name="compare_new"),
    path("compare/play/", play.page, name="compare_play"),
    path("compare/play/<id:playground_id>/", play.one, name="playground"),
    path("compare/import/", compare_new.upload, name="compare_import"),
    path("compare/<id:comparison_id>/", compare.verdict, name="comparison"),
    path("compare/<id:comparison_id>/side/", compare_tabs.side, name="comparison_side"),
    path(
        "compare/<id:comparison_id>/regressions/",
        compare_tabs.regressions,
        name="comparison_regressions",
    ),
    path("compare/<id:comparison_id>/report/", compare.report, name="comparison_report"),
    path("compare/<id:comparison_id>/progress/", compare.progress, name="comparison_progress"),
    path("compare/<id:comparison_id>/keep/", compare.keep, name="comparison_keep"),
    path("compare/<id:comparison_id>/judges/", compare_judges.page, name="comparison_judges"),
    path(
        "compare/<id:comparison_id>/judges/<slug:digest>/<slug:verb>/",
        compare_judges.act,
        name="comparison_judge_act",
    ),
    path("compare/<id:comparison_id>/do/<slug:verb>/", compare.act, name="comparison_act"),
    path("datasets/", datasets.page, name="datasets"),
    path("datasets/upload/", datasets.upload, name="dataset-upload"),
    path("datasets/<id:dataset_id>/", datasets.one, name="dataset"),
    path("datasets/<id:dataset_id>/change/", datasets.change, name="dataset-change"),
    path("datasets/<id:dataset_id>/delete/", datasets.delete, name="dataset-delete"),
    path("compare/<id:comparison_id>/vote/", votes.vote, name="comparison_vote"),
    path("compare/<id:comparison_id>/ratings/", votes.ratings, name="comparison_ratings"),
    path(
        "compare/<id:comparison_id>/preferences/", votes.preferences, name="comparison_preferences"
    ),
    path("runs/", runs.page, name="runs"),
    path("runs/rows/", runs.rows, name="runs-rows"),
    path("runs/removals/", runs.removals, name="runs-removals"),
    path("runs/stop/", runs.stop, name="runs-stop"),
    path("runs/<id:run_id>/", run.page, name="run"),
    path("runs/<id:run_id>/do/<slug:verb>/", run.act, name="run-act"),
    path("runs/<id:run_id>/place/", queue.change, name="run-place"),
    path("runs/<id:run_id>/steer/knobs/", run_steer.knobs, name="run-knobs"),
    path("runs/<id:run_id>/steer/policy/", run_steer.policy, name="run-policy"),
    path("runs/<id:run_id>/steer/promotion/", run_steer.promotion, name="run-promotion"),
    path("runs/<id:run_id>/newest/", run_parts.newest, name="run-newest"),
    path("runs/<id:run_id>/events-part/", run_parts.events, name="run-events"),
    path("runs/<id:run_id>/stall-part/", run_parts.stall, name="run-stall"),
    path("runs/<id:run_id>/truth-part/", run_parts.truth, name="run-truth"),
    path("runs/<id:run_id>/plan-part/", run_parts.plan, name="run-plan"),
    path("runs/<id:run_id>/post-mortem-part/", run_parts.post_mortem, name="run-post-mortem"),
    path("runs/<id:run_id>/<slug:tab>/", run.page, name="run-tab"),
]

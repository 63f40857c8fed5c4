"""Scripts and styles are served without a build step, whole, and compressed where it pays."""

from __future__ import annotations

import gzip

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from orchestrator.static_files import StaticFiles


@pytest.fixture(scope="module")
def serve():
    middleware = StaticFiles(lambda request: HttpResponse("a page", status=404))
    return lambda path, **headers: middleware(RequestFactory().get(path, headers=headers))


@pytest.mark.parametrize(
    "path", ["/static/plotly/plotly.min.js", "/static/django_htmx/htmx-2.min.js"]
)
def test_plotly_and_htmx_come_from_their_packages(serve, path):
    plain = serve(path)
    assert plain.status_code == 200
    assert plain["Content-Type"].startswith("text/javascript")
    assert "Content-Encoding" not in plain
    small = serve(path, accept_encoding="gzip, br")
    assert small["Content-Encoding"] == "gzip"
    assert int(small["Content-Length"]) == len(small.content) < len(plain.content) / 2
    assert gzip.decompress(small.content) == plain.content


def test_an_unchanged_file_is_not_sent_again(serve):
    first = serve("/static/plotly/plotly.min.js")
    again = serve("/static/plotly/plotly.min.js", if_none_match=first["ETag"])
    assert (again.status_code, again.content) == (304, b"")


def test_other_paths_go_to_the_pages(serve):
    assert serve("/static/../manage.py").content == b"a page"
    assert serve("/static/no-such-file.js").content == b"a page"

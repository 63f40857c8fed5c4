"""Ways in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.test import Client

from orchestrator.services.tokens import login_link_create

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import User


def test_it_asks_for_a_login_and_comes_back(ada: User, client: Client) -> None:
    asked = client.get("/runs/")
    assert (asked.status_code, asked["Location"]) == (302, "/login/?next=/runs/")
    answer = client.post(
        "/login/", {"username": "ada", "password": "correct horse", "next": "/runs/"}
    )
    assert (answer.status_code, answer["Location"]) == (302, "/runs/")


def test_a_wrong_password_keeps_the_name_and_says_so(ada: User, client: Client) -> None:
    page = client.post("/login/", {"username": "ada", "password": "wrong"}).content.decode()
    assert 'value="ada"' in page
    assert "Please enter a correct username and password" in page


def test_the_login_page_says_what_to_do_without_a_password(client: Client, db: None) -> None:
    assert "manage.py login_link" in client.get("/login/").content.decode()


def test_it_never_leads_to_another_site(ada: User, client: Client) -> None:
    fields = {"username": "ada", "password": "correct horse", "next": "https://evil.example/"}
    assert client.post("/login/", fields)["Location"] == "/"


def test_opening_a_link_changes_nothing_and_its_button_signs_in(ada: User, client: Client) -> None:
    path = f"/login/link/{login_link_create(user=ada)}/"
    for _ in range(2):
        assert client.get(path).status_code == 200
    assert client.get("/runs/").status_code == 302
    assert client.post(path)["Location"] == "/runs/"
    assert client.get("/runs/").status_code == 200


def test_a_link_works_once(ada: User) -> None:
    path = f"/login/link/{login_link_create(user=ada)}/"
    assert Client().post(path).status_code == 302
    again = Client().post(path)
    assert again.status_code == 403
    assert "used before" in again.content.decode()


def test_a_button_pressed_on_another_site_does_not_sign_in(ada: User) -> None:
    path = f"/login/link/{login_link_create(user=ada)}/"
    assert Client(enforce_csrf_checks=True).post(path).status_code == 403


def test_signing_out_needs_a_post(ada: User, browser_of: Callable[[User], Client]) -> None:
    browser = browser_of(ada)
    assert browser.get("/logout/").status_code == 405
    assert browser.get("/runs/").status_code == 200
    browser.post("/logout/")
    assert browser.get("/runs/").status_code == 302

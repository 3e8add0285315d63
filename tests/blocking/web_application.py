"""Web applications with one client at module level, for pre-forking servers that import them before they fork."""

from __future__ import annotations

import os
from typing import Any

import django
import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from geartrain import GearmanError
from geartrain.blocking import Client

client = Client(dead_time=0.2)  # at the servers in GEARMAN_SERVERS
if "USE_EARLY" in os.environ:
    client.do("reverse", b"before the fork", timeout=10)


def reverse(text: bytes) -> tuple[bytes, int]:
    """Return a body and a status: an error is an answer, too."""
    try:
        return client.do("reverse", text, timeout=10, retry_count=1), 200
    except GearmanError as error:
        return type(error).__name__.encode(), 503


flask_app = flask.Flask(__name__)


@flask_app.post("/")
def flask_view() -> tuple[bytes, int]:
    return reverse(flask.request.data)


def django_view(request: HttpRequest) -> HttpResponse:
    body, status = reverse(request.body)
    return HttpResponse(body, status=status)


urlpatterns = [path("", django_view)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="for tests")
django.setup()
django_app: Any = get_wsgi_application()

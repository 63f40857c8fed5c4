"""Django settings: read from the environment, with defaults that need nothing installed.

Importing this module starts nothing. With `DATABASE_URL` unset the embedded database of DATA is used.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import environ

from orchestrator import postgres
from orchestrator.artifacts.place import url_checked
from orchestrator.data_dir import PROJECT_DIR, data_dir, secret_key
from trainer.tempo import TEMPO

env = environ.Env()

# --- Where things are -----------------------------------------------------------------------------

BASE_DIR = PROJECT_DIR
ANNEAL_DATA_DIR = data_dir()
ANNEAL_ARTIFACTS_URL = url_checked(env.str("ANNEAL_ARTIFACTS_URL", ""), ANNEAL_DATA_DIR)
"""The store of checkpoints that server and nodes share; "" keeps copies under DATA/artifacts of the server."""

BROKER_URL = env.str("BROKER_URL", "filesystem://")

# --- Who may talk to us ---------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", False)
SECRET_KEY = env.str("ANNEAL_SECRET_KEY", "") or secret_key(ANNEAL_DATA_DIR)
ALLOWED_HOSTS = [*env.list("ANNEAL_ALLOWED_HOSTS", default=[]), "localhost", "127.0.0.1", "[::1]"]
ANNEAL_HTTPS = env.bool("ANNEAL_HTTPS", False)
"""True when people reach the server by https, through a proxy that sets X-Forwarded-Proto."""

ANNEAL_URL = env.str("ANNEAL_URL", "http://127.0.0.1:8000")
"""Where people reach a server that `up` did not start; for links that commands print."""

CSRF_TRUSTED_ORIGINS = env.list("ANNEAL_TRUSTED_ORIGINS", default=[])
# Cookies ignore ports: a second program on localhost must not overwrite these.
SESSION_COOKIE_NAME = "anneal_session"
CSRF_COOKIE_NAME = "anneal_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ANNEAL_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ANNEAL_HTTPS else None
SECURE_HSTS_SECONDS = 31_536_000 if ANNEAL_HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

AUTH_USER_MODEL = "orchestrator.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- What is loaded -------------------------------------------------------------------------------

INSTALLED_APPS = [
    "orchestrator.apps.AdminSiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "ninja",
    "orchestrator.apps.OrchestratorConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "orchestrator.security.ContentPolicy",
    "orchestrator.static_files.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "orchestrator.security.LoginByDefault",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "orchestrator.urls"
ASGI_APPLICATION = "orchestrator.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Database and live hints ----------------------------------------------------------------------

DATABASE_EMBEDDED = not env.str("DATABASE_URL", "")
DATABASES = {
    "default": postgres.django_database(ANNEAL_DATA_DIR) if DATABASE_EMBEDDED else env.db()
}
# daphne calls the ORM from one thread: a connection that stays open saves a new backend per call.
DATABASES["default"] |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
# A process that hangs in a transaction must not hold back all others: the database takes its locks away.
IDLE_IN_TRANSACTION_MS = round(1000 * TEMPO.grace)
_options = DATABASES["default"].setdefault("OPTIONS", {})
_options["options"] = (
    f"{_options.get('options', '')} -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_MS}"
).strip()
# Groups live in each web process; PostgreSQL's NOTIFY carries hints between processes.
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# --- Static files ---------------------------------------------------------------------------------


def _plotly_js() -> list[tuple[str, Path]]:
    """Return the folder of the Plotly package that holds `plotly.min.js`, without importing it."""
    found = find_spec("plotly")
    return (
        [("plotly", Path(found.origin).parent / "package_data")] if found and found.origin else []
    )


STATIC_URL = "/static/"
STATICFILES_DIRS = [
    *([BASE_DIR / "static"] if (BASE_DIR / "static").is_dir() else []),
    *_plotly_js(),
]
# No collect step: files are found where they are, and revalidated by their ETag.
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 0
WHITENOISE_ALLOW_ALL_ORIGINS = False

# --- Words, times and uploads ---------------------------------------------------------------------

LANGUAGE_CODE = "en-us"
TIME_ZONE = env.str("ANNEAL_TIME_ZONE", "UTC")
USE_TZ = True
USE_I18N = False
# Larger bodies are streamed to disk or refused by the route that takes them.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 2**20
ANNEAL_MAX_UPLOAD_MB = env.int("ANNEAL_MAX_UPLOAD_MB", 512)
"""Largest file that may be uploaded, in MiB."""

ANNEAL_LOG_DAYS = env.float("ANNEAL_LOG_DAYS", 0.0)
"""Days after a run's end for which its log lines are kept; 0 keeps them."""
ANNEAL_SAMPLE_DAYS = env.float("ANNEAL_SAMPLE_DAYS", 0.0)
"""The same for sampled answers."""

ANNEAL_GOLD_RATE = env.float("ANNEAL_GOLD_RATE", 0.1)
"""Share of blind votes that are hidden test items, from 0 to 1."""
if not 0 <= ANNEAL_GOLD_RATE <= 1:
    raise ValueError(
        f"ANNEAL_GOLD_RATE is {ANNEAL_GOLD_RATE}; it is a share of votes: set it from 0 to 1."
    )

FILE_UPLOAD_HANDLERS = [
    "orchestrator.uploads.SizeLimit",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("ANNEAL_LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"level": "WARNING"},
        # A broker that is a folder has no host name, which kombu mentions at every connection.
        "kombu.connection": {"level": "ERROR"},
        # One line for every beat of the scheduler would bury the rest.
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
    },
}

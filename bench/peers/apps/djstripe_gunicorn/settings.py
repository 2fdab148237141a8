"""Django's settings: a production's, as far as a webhook needs them."""

import os
from urllib.parse import unquote, urlsplit

_database = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "of a benchmark on this machine alone"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "djstripe_gunicorn.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "djstripe",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _database.hostname,
        "PORT": _database.port,
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "NAME": _database.path.lstrip("/"),
        "CONN_MAX_AGE": None,
    }
}
# The tables straight from the models: the same, and created in seconds instead of minutes.
MIGRATION_MODULES = dict.fromkeys(("auth", "contenttypes", "djstripe"))
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STRIPE_TEST_SECRET_KEY = "sk_test_" + "0" * 24
SILENCED_SYSTEM_CHECKS = ["djstripe.W002"]  # the stub's address "should not be set in production"
STRIPE_LIVE_MODE = False
STRIPE_API_HOST = os.environ["STRIPE_API_HOST"]  # the stub
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"

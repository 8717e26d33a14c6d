"""The Ray way to serve: ``serve run serve_app:app``, configured by ``GREENROOM_*``.

`app` is built from the settings alone. The database must exist (``GREENROOM_DATABASE_URL``) or is
the embedded one of ``GREENROOM_DATA_DIR``, which the registry then keeps running. Ray's own
environment (HAProxy, throughput mode) has to be set where the cluster is started: see
docs/settings.md.
"""

from __future__ import annotations

import asyncio
import logging

from actors.gateway.deployment import application
from actors.server.preparing import prepare_database
from actors.setups import embedded_directory, registry_setup
from greenroom.environment import SERVER_SECRETS, forget_secrets
from greenroom.exposure import refuse_exposure
from greenroom.graph_check import GraphCheck
from greenroom.graphs.configuration import read_configuration
from greenroom.persistence.embedded import start_embedded
from greenroom.settings import Settings

settings = Settings.read()
forget_secrets(SERVER_SECRETS)
configuration = read_configuration(settings.config).with_auth(settings.auth)
refuse_exposure(settings, authenticates=configuration.auth is not None)
for sentence in configuration.warnings:
    logging.getLogger("greenroom.server").warning(sentence)
if settings.allow_broken:
    with GraphCheck(settings.config) as graph_check:
        configuration = configuration.with_problems(graph_check.problems())
if settings.database_url is None:
    embedded = start_embedded(embedded_directory(settings))
    dsn = embedded.dsn
else:
    dsn = settings.database_url
generation = asyncio.run(prepare_database(dsn, configuration))

setup = registry_setup(settings, configuration, dsn, generation=generation)
forget_secrets(configuration.webhooks.variables)

app = application(settings, setup)

"""Everything a server imports, for the process that servers are forked from."""

import psycopg
import pytest
import uvloop
import websockets.server
from google.cloud import storage

import emulator.app
import emulator.cli
import emulator.storage.gcs_store
import tests.chaos.served
from emulator.vertex import contract

__all__ = ["emulator", "psycopg", "pytest", "storage", "tests", "uvloop", "websockets"]

contract.load()

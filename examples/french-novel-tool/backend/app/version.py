"""The version that GET /api/v1/version answers with."""

VERSION = "1.0.0"

"""One JSON object per log line, the same for Gunicorn, Flask and Celery."""

import json
import logging
import logging.config
from datetime import UTC, datetime

# Attributes every LogRecord has; anything else was given as `extra=` and is written out.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
}


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message, the `extra` fields and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in vars(record).items():
            # Celery adds its task's arguments as `data`; they repeat the message.
            if key not in STANDARD and key != "data":
                line[key] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def config(level: str) -> dict:
    """A `logging.config.dictConfig` that sends everything to standard output."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "json",
            }
        },
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"level": level, "propagate": True, "handlers": []},
            "gunicorn.access": {"level": "WARNING", "propagate": True, "handlers": []},
            "pypdf": {"level": "ERROR"},
            "alembic.runtime.plugins": {"level": "WARNING"},
        },
    }


def setup(level: str) -> None:
    """Applies `config` to this process."""
    logging.config.dictConfig(config(level))

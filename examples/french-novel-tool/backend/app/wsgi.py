"""What Gunicorn loads."""

from app import logs, runtime
from app.web import create_app

logs.setup(runtime.current().settings.log_level)
app = create_app(runtime.current())

"""One table: what was counted."""

from django.db import models


class Mark(models.Model):
    kind = models.CharField(max_length=20)

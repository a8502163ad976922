"""Jobs, uploads and sentences."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("word_limit", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("pages", sa.Integer),
        sa.Column("total", sa.Integer),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("rewritten", sa.Integer, nullable=False),
        sa.Column("produced", sa.Integer, nullable=False),
        sa.Column("too_long", sa.Integer, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("started_at", time),
        sa.Column("finished_at", time),
        sa.Column("owner", sa.String(32)),
        sa.Column("leased_until", time),
        sa.Column("attempts", sa.Integer, nullable=False),
    )
    op.create_index("jobs_by_creation", "jobs", ["created_at"])
    op.create_table(
        "uploads",
        sa.Column("job_id", *job_reference(), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "sentences",
        sa.Column("job_id", *job_reference(), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("original", sa.Text, nullable=False),
        sa.Column("parts", sa.JSON(none_as_null=True)),
        sa.Column("method", sa.String(16)),
    )


def job_reference() -> tuple[sa.Uuid, sa.ForeignKey]:
    return sa.Uuid(as_uuid=False), sa.ForeignKey("jobs.id", ondelete="CASCADE")


def downgrade() -> None:
    op.drop_table("sentences")
    op.drop_table("uploads")
    op.drop_table("jobs")

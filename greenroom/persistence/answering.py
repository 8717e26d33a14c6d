"""Whether a thread waits for what a run answers, in SQL (`greenroom.core.answering`)."""

from __future__ import annotations

# Sealed interrupts are written anew, and so sealed anew, whenever they may have changed.
MARK = "encode(sha256(convert_to(interrupts::text, 'UTF8')), 'hex')"
"""The mark of the interrupts of ``greenroom.threads``."""

# Another run that is not over and answers something else leaves this for us: LangGraph asks it
# again, under the same id.
IS_AWAITED = f"""EXISTS (SELECT 1 FROM greenroom.threads
        WHERE thread_id = %(thread)s AND {MARK} = %(mark)s)
    AND NOT EXISTS (SELECT 1 FROM greenroom.runs r
        WHERE r.thread_id = %(thread)s AND r.status IN ('pending', 'running')
            AND (r.status = 'running' OR r.due_at IS NULL OR r.due_at <= clock_timestamp())
            AND (r.answers IS NULL OR r.answers && %(answers)s::text[]))"""

# Sealed interrupts look like some; the caller reads them then.
NOTHING_IS_AWAITED = """NOT EXISTS (SELECT 1 FROM greenroom.threads
        WHERE thread_id = %(thread)s AND interrupts::text NOT IN ('{}', 'null'))"""

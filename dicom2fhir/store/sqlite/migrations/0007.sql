-- Version 7: every wait has a beginning, so that one which begins in the future is known for the work of a wrong clock.

-- Of the lease while the delivery is being sent, else of the pause after a failed try. When the pauses from before version 7
-- began is not known: those that have not ended end with the next start.
ALTER TABLE delivery ADD COLUMN tried_at REAL NOT NULL DEFAULT 0;
UPDATE delivery SET tried_at = not_before WHERE not_before > 0;

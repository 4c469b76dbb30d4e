-- Version 4: what kind of refusal it was.

-- The kind of the error; `kind` is that of the origin.
ALTER TABLE rejection ADD COLUMN error TEXT NOT NULL DEFAULT '';

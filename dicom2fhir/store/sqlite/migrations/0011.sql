-- Version 11: why what was delivered does not claim the profile of its destination.

-- Of the last success; empty if the profile is claimed, or if there is none.
ALTER TABLE delivery ADD COLUMN unclaimed TEXT NOT NULL DEFAULT '';

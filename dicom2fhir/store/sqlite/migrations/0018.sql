-- Version 18: why the title of a rejection note says so.

-- Document Title Modifier (113011) as JSON: [value, scheme, meaning] of each. Notes from before version 18 have none until they
-- come again.
ALTER TABLE rejected_instance ADD COLUMN modifiers TEXT NOT NULL DEFAULT '[]';

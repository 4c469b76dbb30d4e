-- Version 16: destinations that somebody has paused.

ALTER TABLE destination ADD COLUMN paused_at REAL;      -- NULL: not paused

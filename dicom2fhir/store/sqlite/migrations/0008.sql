-- Version 8: how often a revision was raised. A file beside the store repeats it (store/sqlite/progress_mark.py), and shows when changes are lost.

INSERT INTO total (name, n) SELECT 'revisions', coalesce(sum(revision), 0) FROM study;

CREATE TRIGGER revision_raised AFTER UPDATE OF revision ON study BEGIN
    UPDATE total SET n = n + 1 WHERE name = 'revisions';
END;

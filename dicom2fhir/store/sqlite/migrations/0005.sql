-- Version 5: refusals are counted by their kind.

-- Kept by a trigger, because `rejection` forgets the oldest; the kind of those before version 4 is not known.
CREATE TABLE rejected (
    kind TEXT    PRIMARY KEY,
    n    INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO rejected SELECT '', n FROM total WHERE name = 'rejected' AND n > 0;

CREATE TRIGGER rejection_counted AFTER INSERT ON rejection BEGIN
    INSERT INTO rejected VALUES (NEW.error, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;

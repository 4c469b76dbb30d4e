-- Version 2: what each delivery was made with, and how many deliveries that is true of.

-- The present one of a destination; empty as long as nobody has said it.
ALTER TABLE destination ADD COLUMN recipe TEXT NOT NULL DEFAULT '';
-- Of the last success; empty before it, and for what was delivered before version 2.
ALTER TABLE delivery ADD COLUMN recipe TEXT NOT NULL DEFAULT '';

-- Deliveries in the state 'delivered' by what they were made with, kept by triggers so that `status` need not count them.
CREATE TABLE made (
    destination_id INTEGER NOT NULL REFERENCES destination (id),
    recipe         TEXT    NOT NULL,
    n              INTEGER NOT NULL,
    PRIMARY KEY (destination_id, recipe)
) WITHOUT ROWID;
INSERT INTO made SELECT destination_id, '', n FROM tally WHERE state = 'delivered' AND n > 0;

CREATE TRIGGER delivery_made AFTER UPDATE OF state, recipe ON delivery
WHEN 'delivered' IN (OLD.state, NEW.state) AND (OLD.state <> NEW.state OR OLD.recipe <> NEW.recipe) BEGIN
    UPDATE made SET n = n - 1
    WHERE OLD.state = 'delivered' AND destination_id = OLD.destination_id AND recipe = OLD.recipe;
    INSERT INTO made SELECT NEW.destination_id, NEW.recipe, 1 WHERE NEW.state = 'delivered'
    ON CONFLICT DO UPDATE SET n = n + 1;
END;

-- Version 14: the due rule of the daemon, which also holds for what commands write beside it.

CREATE TABLE due_rule (quiet_period_s REAL NOT NULL, max_wait_s REAL NOT NULL);
INSERT INTO due_rule (quiet_period_s, max_wait_s) VALUES (30, 900);

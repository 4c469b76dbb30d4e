-- Version 2 holds what version 19 of the SQLite store holds: studies that were forgotten because they had been delivered everywhere
-- for long.

CREATE TABLE forgotten (
    study   BYTEA  PRIMARY KEY,
    at      BIGINT NOT NULL,
    patient BYTEA  NOT NULL
);

-- What the routers need in the database "postgres" of the coordinator group. Runs as a superuser on the primary, in one
-- transaction; may be repeated at any time.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'multicoord_router') THEN
        CREATE ROLE multicoord_router LOGIN NOSUPERUSER;
    END IF;
    -- pg_stat_wal_receiver hides its columns from others.
    IF NOT pg_catalog.pg_has_role('multicoord_router', 'pg_monitor', 'MEMBER') THEN
        GRANT pg_monitor TO multicoord_router;
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS multicoord;
GRANT USAGE ON SCHEMA multicoord TO multicoord_router;

-- The stored password and the login attributes of one role. It runs with its owner's rights, because nobody else may
-- read pg_authid; only the routers' role may call it. The router needs the SCRAM verifier to check a client's proof and
-- never sees a password.
--
-- Columns cannot be added to what a function returns: one of an older version is dropped first. The transaction hides that.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_proc p
               WHERE p.oid = pg_catalog.to_regprocedure('multicoord.role_verifier(text, text)')
                 AND NOT 'may_connect' = ANY (p.proargnames)) THEN
        DROP FUNCTION multicoord.role_verifier(text, text);
    END IF;
END
$$;
CREATE OR REPLACE FUNCTION multicoord.role_verifier(
    role_name text,
    database_name text DEFAULT NULL,
    OUT rolpassword text,
    OUT rolcanlogin boolean,
    OUT expired boolean,
    OUT rolconnlimit integer,
    OUT settings text[],
    OUT rolsuper boolean,
    OUT datallowconn boolean, -- null for a database that does not exist
    OUT may_connect boolean)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.rolpassword,
           a.rolcanlogin,
           coalesce(a.rolvaliduntil < now(), false),
           a.rolconnlimit,
           -- ALTER DATABASE … SET, then ALTER ROLE … SET, then ALTER ROLE … IN DATABASE … SET: the last one wins.
           ARRAY(SELECT setting
                 FROM pg_db_role_setting s
                 LEFT JOIN pg_database d ON d.oid = s.setdatabase,
                 LATERAL unnest(s.setconfig) WITH ORDINALITY AS u (setting, n)
                 WHERE s.setrole IN (0, a.oid)
                   AND (s.setdatabase = 0 OR d.datname = database_name)
                 ORDER BY (s.setrole <> 0)::int * 2 + (s.setdatabase <> 0)::int, n),
           a.rolsuper,
           b.datallowconn,
           has_database_privilege(a.oid, b.oid, 'CONNECT')
    FROM pg_authid a
    LEFT JOIN pg_database b ON b.datname = database_name
    WHERE a.rolname = role_name
$$;
REVOKE ALL ON FUNCTION multicoord.role_verifier(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION multicoord.role_verifier(text, text) TO multicoord_router;

-- Makes one of the cluster's roles, or gives it the attributes and the password it should have. The name and the
-- SCRAM verifier come as settings of the transaction, for DDL takes no parameters; the password itself never
-- reaches the server.
DO $$
DECLARE
    role_name text := current_setting('multicoord.role_name');
    attributes text := CASE role_name
        WHEN 'postgres' THEN 'SUPERUSER LOGIN REPLICATION BYPASSRLS CREATEROLE CREATEDB'
        WHEN 'multicoord_replicator' THEN 'NOSUPERUSER LOGIN REPLICATION'
        ELSE 'NOSUPERUSER LOGIN NOREPLICATION'
    END;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
        EXECUTE format('CREATE ROLE %I', role_name);
    END IF;
    EXECUTE format('ALTER ROLE %I %s PASSWORD %L', role_name, attributes, current_setting('multicoord.role_verifier'));
END
$$;

-- The stored password of each role that the cluster needs.
SELECT rolname, coalesce(rolpassword, '')
FROM pg_catalog.pg_authid
WHERE rolname = ANY ($1::name[]);

-- How the physical slots whose name begins with our prefix ($1, already escaped for LIKE) stand, on a primary and on a standby.
SELECT
    l.slot_name::text,
    l.active,
    coalesce(l.wal_status, ''),
    greatest(coalesce(pg_wal_lsn_diff(r.lsn, l.restart_lsn), 0), 0)::bigint
FROM pg_replication_slots l
CROSS JOIN (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS lsn
) r
WHERE l.slot_type = 'physical' AND NOT l.temporary AND l.slot_name LIKE $1
ORDER BY l.slot_name

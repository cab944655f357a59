-- What a server says of itself, on a primary and on a standby, PostgreSQL 15 to 18.
-- The timeline of a primary is the one it writes (pg_control has it only after the next checkpoint); of a standby, the
-- latest that it has received or replayed.
SELECT
    r.in_recovery,
    (SELECT system_identifier::text FROM pg_control_system()),
    CASE WHEN r.in_recovery
        THEN greatest(
            (SELECT timeline_id FROM pg_control_checkpoint()),
            (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
            w.received_tli)::bigint
        ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint
    END AS timeline,
    CASE WHEN r.in_recovery THEN NULL ELSE pg_current_wal_lsn()::text END AS current_lsn,
    CASE WHEN r.in_recovery THEN pg_last_wal_receive_lsn()::text END AS received_lsn,
    CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn()::text END AS replayed_lsn,
    CASE WHEN r.in_recovery THEN pg_is_wal_replay_paused() ELSE false END AS replay_paused,
    coalesce(w.status, '') AS receiver_status,
    coalesce(w.sender_host, '') AS sender_host,
    coalesce(w.sender_port, 0) AS sender_port,
    coalesce(w.slot_name, '') AS slot_name,
    pg_postmaster_start_time() AS started_at,
    current_setting('server_version') AS version,
    ARRAY(SELECT s.name FROM pg_settings s WHERE s.pending_restart ORDER BY s.name) AS pending_restart,
    ARRAY(
        SELECT l.slot_name::text FROM pg_replication_slots l
        WHERE l.slot_type = 'physical' AND NOT l.temporary AND starts_with(l.slot_name::text, 'multicoord_')
        ORDER BY l.slot_name
    ) AS slots
FROM (SELECT pg_is_in_recovery() AS in_recovery) r
LEFT JOIN pg_stat_wal_receiver w ON true

-- One coordinator's role, identity and position. On a primary the timeline is read off the name of the file that is
-- being written; on a standby it is the one that the WAL receiver streams, or the one of the last restart point.
-- All functions are evaluated once; no table is read.
SELECT r.recovering,
       s.system_identifier::text,
       CASE WHEN r.recovering
            THEN coalesce((SELECT w.received_tli FROM pg_catalog.pg_stat_wal_receiver w), k.timeline_id)
            ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int
       END,
       CASE WHEN r.recovering
            THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn()
       END::text,
       r.recovering AND EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver w WHERE w.status = 'streaming')
FROM (SELECT pg_catalog.pg_is_in_recovery() AS recovering) r,
     pg_catalog.pg_control_system() s,
     pg_catalog.pg_control_checkpoint() k

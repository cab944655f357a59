-- One coordinator's role, identity and position; no table is read.
--
-- A primary tells its insert position, which covers commits that were acknowledged before they were written out. Where
-- a page of the log begins, the insert position is behind the page's header and what a standby has replayed is before
-- it, although nothing lies between: 24 bytes, 40 at the beginning of a segment (XLogBytePosToRecPtr and
-- XLogBytePosToEndRecPtr in xlog.c). Such a position is moved back to where replay ends.
--
-- The timeline of a primary is read off the name of the file that is being written; that of a standby is the one that
-- its WAL receiver streams, or the one of its last restart point.
SELECT r.recovering,
       s.system_identifier::text,
       CASE WHEN r.recovering
            THEN coalesce((SELECT w.received_tli FROM pg_catalog.pg_stat_wal_receiver w), k.timeline_id)
            ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(p.lsn), 1, 8))::bit(32)::int
       END,
       (CASE WHEN r.recovering THEN p.lsn
             WHEN (p.lsn - '0/0') % i.bytes_per_wal_segment = 40 THEN p.lsn - 40::numeric
             WHEN (p.lsn - '0/0') % i.wal_block_size = 24 THEN p.lsn - 24::numeric
             ELSE p.lsn
        END)::text,
       -- What a primary has flushed is all that a standby can have: lag is held against it.
       CASE WHEN r.recovering THEN '0/0' ELSE pg_catalog.pg_current_wal_flush_lsn()::text END,
       r.recovering AND EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver w WHERE w.status = 'streaming')
FROM (SELECT pg_catalog.pg_is_in_recovery() AS recovering) r,
     LATERAL (SELECT CASE WHEN r.recovering
                          THEN coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0')
                          ELSE pg_catalog.pg_current_wal_insert_lsn()
                     END AS lsn) p,
     pg_catalog.pg_control_system() s,
     pg_catalog.pg_control_checkpoint() k,
     (SELECT c.bytes_per_wal_segment,
             pg_catalog.current_setting('wal_block_size')::int AS wal_block_size
      FROM pg_catalog.pg_control_init() c) i

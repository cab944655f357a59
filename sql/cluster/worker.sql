-- The schema that holds the shards on a worker. Only its owner and superusers may make tables in it; what a client's
-- role may do with a shard is granted shard by shard.
CREATE SCHEMA IF NOT EXISTS multicoord_shards AUTHORIZATION multicoord_owner;
REVOKE ALL ON SCHEMA multicoord_shards FROM PUBLIC;
COMMENT ON SCHEMA multicoord_shards IS 'shards of distributed tables; managed by the orchestrator';

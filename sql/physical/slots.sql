-- Physical slots whose name begins with our prefix ($1, already escaped for LIKE).
SELECT slot_name::text, active
FROM pg_replication_slots
WHERE slot_type = 'physical' AND NOT temporary AND slot_name LIKE $1
ORDER BY slot_name

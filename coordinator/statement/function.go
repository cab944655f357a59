package statement

import (
	_ "embed"
	"strings"
	"sync"
)

// effect is what a function does that keeps a statement from being a read, whoever defined the function.
type effect struct {
	does string // continues "function f() …"
	pin  string // why the session must keep the server connection; "" when it need not
	// state: the function reads what earlier statements of the session left in the server connection.
	state bool
}

// effects are PostgreSQL's functions (and a few of its extensions') that change data or the session, or that only
// the primary can answer. The names count in any schema: a function of the user's with such a name is not trusted.
//
// Among them are functions which pg_proc calls stable although a standby refuses them (txid_current) and which it
// calls volatile although they write nothing: those answer for one server, and the operator means the primary.
var effects = func() map[string]effect {
	m := map[string]effect{}
	add := func(e effect, names string) {
		for n := range strings.FieldsSeq(names) {
			m[n] = e
		}
	}
	add(effect{does: "changes data"}, `nextval setval pg_notify pg_logical_emit_message pg_import_system_collations
		pg_nextoid brin_desummarize_range brin_summarize_new_values brin_summarize_range gin_clean_pending_list
		pg_create_restore_point pg_switch_wal pg_switch_xlog pg_extension_config_dump`)
	add(effect{does: "answers for this session's earlier statements", pin: "currval() or lastval()", state: true},
		`currval lastval`)
	add(effect{does: "answers for this session's server connection", state: true},
		`pg_cursor pg_prepared_statement pg_listening_channels`)
	// Waiting for an advisory lock has a meaning only where all others take it. The lock of a transaction ends with
	// it and keeps nothing; releasing needs the connection that holds the lock, which is pinned since it was taken.
	add(effect{does: "takes a lock that others must see", pin: "session advisory lock"},
		`pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared`)
	add(effect{does: "takes a lock that others must see"}, `pg_advisory_xact_lock pg_advisory_xact_lock_shared
		pg_try_advisory_xact_lock pg_try_advisory_xact_lock_shared`)
	add(effect{does: "releases a lock"}, `pg_advisory_unlock pg_advisory_unlock_shared
		pg_advisory_unlock_all`)
	add(effect{does: "changes the seed of the session's random numbers", pin: "setseed()"}, `setseed`)
	// set_config is looked at more closely by the classifier, which drops it from a statement's functions when
	// is_local is plainly true.
	add(effect{does: "changes a setting of the session", pin: "set_config()"}, `set_config`)
	add(effect{does: "assigns a transaction number"}, `txid_current pg_current_xact_id`)
	add(effect{does: "must run where the transaction is"}, `pg_export_snapshot txid_status pg_xact_status`)
	add(effect{does: "works with large objects"}, `lo_creat lo_create lo_open lo_close lo_export lo_import lo_from_bytea
		lo_get lo_put lo_lseek lo_lseek64 lo_tell lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite lo_manage`)
	add(effect{does: "answers on the primary only"}, `pg_current_wal_lsn pg_current_wal_insert_lsn
		pg_current_wal_flush_lsn pg_walfile_name pg_walfile_name_offset pg_split_walfile_name pg_sequence_last_value`)
	add(effect{does: "acts on one server"}, `pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile
		pg_rotate_logfile_old pg_promote pg_wal_replay_pause pg_wal_replay_resume pg_log_standby_snapshot
		pg_log_backend_memory_contexts pg_stat_reset pg_stat_reset_shared pg_stat_reset_single_table_counters
		pg_stat_reset_single_function_counters pg_stat_reset_slru pg_stat_reset_replication_slot
		pg_stat_reset_subscription_stats pg_stat_reset_backend_stats pg_stat_clear_snapshot pg_stat_force_next_flush
		pg_stat_statements_reset pg_prewarm pg_sync_replication_slots pg_restore_relation_stats
		pg_restore_attribute_stats pg_clear_relation_stats pg_clear_attribute_stats`)
	// Drivers ask for the role to find out whether they may write (target_session_attrs, targetServerType); through a
	// router they may, as on the primary. SHOW transaction_read_only is treated alike.
	add(effect{does: "asks for the server's role"}, `pg_is_in_recovery`)
	add(effect{does: "keeps its state in the session", pin: "base backup"},
		`pg_backup_start pg_backup_stop pg_start_backup pg_stop_backup`)
	add(effect{does: "keeps its state in the session", pin: "replication origin"}, `pg_replication_origin_session_setup
		pg_replication_origin_session_reset pg_replication_origin_xact_setup pg_replication_origin_xact_reset`)
	add(effect{does: "changes replication"}, `pg_replication_origin_create pg_replication_origin_drop
		pg_replication_origin_advance pg_replication_slot_advance pg_drop_replication_slot
		pg_create_physical_replication_slot pg_create_logical_replication_slot pg_copy_physical_replication_slot
		pg_copy_logical_replication_slot pg_logical_slot_get_changes pg_logical_slot_get_binary_changes
		pg_logical_slot_peek_changes pg_logical_slot_peek_binary_changes`)
	add(effect{does: "runs a statement that is not seen here"}, `query_to_xml query_to_xmlschema
		query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema ts_stat ts_rewrite xpath_table connectby crosstab
		crosstab2 crosstab3 crosstab4 crosstabn`)
	add(effect{does: "reads or writes the server's files"}, `pg_read_file pg_read_file_old pg_read_binary_file
		pg_stat_file pg_ls_dir pg_ls_logdir pg_ls_waldir pg_ls_tmpdir pg_ls_archive_statusdir pg_ls_logicalmapdir
		pg_ls_logicalsnapdir pg_ls_replslotdir pg_ls_summariesdir pg_current_logfile pg_file_write pg_file_sync
		pg_file_rename pg_file_unlink pg_logdir_ls`)
	// A named connection of dblink lives in the server's session.
	add(effect{does: "keeps its state in the session", pin: "dblink connection"}, `dblink_connect dblink_connect_u`)
	return m
}()

// effectOf finds what a function does by its name alone.
func effectOf(name string) (effect, bool) {
	if e, ok := effects[name]; ok {
		return e, true
	}
	switch {
	case strings.HasPrefix(name, "dblink"):
		return effect{does: "runs a statement on another server"}, true
	case strings.HasPrefix(name, "pg_stat_get_"), strings.HasPrefix(name, "pg_show_replication_"):
		return effect{does: "shows the state of one server"}, true
	}
	return effect{}, false
}

// harmless are volatile functions of PostgreSQL that any server may answer: they give a number, the time, a fresh
// identifier or the state of the server that is asked, or wait.
//
// pg_sleep is one of them: it changes nothing, and a standby is the better place to wait.
var harmless = words(`random random_normal clock_timestamp timeofday gen_random_uuid uuidv4 uuidv7 pg_sleep pg_sleep_for
	pg_sleep_until current_query pg_last_wal_receive_lsn pg_last_wal_replay_lsn
	pg_last_xact_replay_timestamp pg_is_wal_replay_paused pg_get_wal_replay_pause_state pg_relation_size pg_table_size
	pg_indexes_size pg_total_relation_size pg_database_size pg_tablespace_size pg_partition_tree pg_partition_ancestors
	pg_collation_actual_version pg_database_collation_actual_version pg_control_system pg_control_init
	pg_jit_available pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_last_committed_xact`)

// harmlessExtensions are volatile functions of well-known extensions that only compute, by extension.
var harmlessExtensions = map[string]map[string]bool{
	"uuid-ossp": words(`uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4`),
	"pgcrypto": words(`gen_random_uuid gen_random_bytes gen_salt pgp_sym_encrypt pgp_sym_encrypt_bytea pgp_pub_encrypt
		pgp_pub_encrypt_bytea encrypt decrypt`),
	"tablefunc": words(`normal_rand`),
}

//go:embed builtin.txt
var builtinText string

// builtinNames are the names in pg_catalog of PostgreSQL 15 of which every function is immutable or stable; a test reads
// them from a server and writes builtin.txt. They are used while no Catalog is at hand.
var builtinNames = sync.OnceValue(func() map[string]bool { return words(builtinText) })

// builtinOperators are the operators of pg_catalog, all of which compute only.
var builtinOperators = words(`!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->> -|- /
	< <-> << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~*
	~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~*`)

func builtin(f Function) bool {
	if f.Operator {
		return builtinOperators[f.Name]
	}
	return harmless[f.Name] || builtinNames()[f.Name]
}

func words(s string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		m[w] = true
	}
	return m
}

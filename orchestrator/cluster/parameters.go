package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// managed are the settings of postgresql.conf that the orchestrator gives itself, with what to use instead. They
// decide where a server lives, whom it follows and who may connect.
var managed = map[string]string{
	"archive_cleanup_command":   "standbys stream from the primary",
	"cluster_name":              "it is the node's name",
	"config_file":               "the data directory belongs to the agent",
	"data_directory":            "the data directory belongs to the agent",
	"data_sync_retry":           "a failed fsync must stop the server",
	"external_pid_file":         "the guard process keeps it",
	"hba_file":                  "use postgresql.hba",
	"hot_standby":               "standbys serve reads",
	"hot_standby_feedback":      "it is on",
	"ident_file":                "use postgresql.hba",
	"include":                   "list the settings here",
	"include_dir":               "list the settings here",
	"include_if_exists":         "list the settings here",
	"listen_addresses":          "use hosts[].address",
	"log_destination":           "the agent keeps the logs; see orchestrator logs",
	"log_directory":             "the agent keeps the logs; see orchestrator logs",
	"log_filename":              "the agent keeps the logs; see orchestrator logs",
	"logging_collector":         "the agent keeps the logs; see orchestrator logs",
	"password_encryption":       "it is scram-sha-256",
	"port":                      "use the node's port",
	"primary_conninfo":          "standbys follow their group's primary",
	"primary_slot_name":         "standbys follow their group's primary",
	"promote_trigger_file":      "the leader decides who is primary",
	"recovery_end_command":      "standbys stream from the primary",
	"recovery_target":           "standbys follow their group's primary",
	"recovery_target_action":    "standbys follow their group's primary",
	"recovery_target_inclusive": "standbys follow their group's primary",
	"recovery_target_lsn":       "standbys follow their group's primary",
	"recovery_target_name":      "standbys follow their group's primary",
	"recovery_target_time":      "standbys follow their group's primary",
	"recovery_target_timeline":  "standbys follow their group's primary",
	"recovery_target_xid":       "standbys follow their group's primary",
	"restart_after_crash":       "the agent decides about restarts",
	"synchronous_standby_names": "the leader decides who is synchronous",
	"unix_socket_directories":   "sockets are in a private folder",
	"unix_socket_group":         "sockets are in a private folder",
	"unix_socket_permissions":   "sockets are in a private folder",
	"wal_level":                 "it is logical",
}

// presets are read-only: a server with one of them in its configuration does not start
// (src/backend/utils/misc/guc_tables.c, group PRESET_OPTIONS, and others of GUC_DISALLOW_IN_FILE).
var presets = []string{
	"block_size", "data_checksums", "data_directory_mode", "debug_assertions", "in_hot_standby", "integer_datetimes",
	"is_superuser", "lc_collate", "lc_ctype", "max_function_args", "max_identifier_length", "max_index_keys",
	"role", "segment_size", "server_encoding", "server_version", "server_version_num", "session_authorization",
	"shared_memory_size", "shared_memory_size_in_huge_pages", "ssl_library", "transaction_deferrable",
	"transaction_isolation", "transaction_read_only", "wal_block_size", "wal_segment_size",
}

// floors are the least values with which replication still works: standbys, their base backups and moves take a
// sender and a slot each.
var floors = map[string]int{"max_wal_senders": 10, "max_replication_slots": 10, "max_connections": 20}

// ManagedParameter tells whether the orchestrator gives the setting itself, so that a spec must not. Names are
// compared as PostgreSQL does, without regard to case.
func ManagedParameter(name string) bool {
	_, ok := managed[strings.ToLower(name)]
	return ok
}

// parameterProblem says what is wrong with a setting of postgresql.conf, or nothing. Whether PostgreSQL knows it, and
// accepts the value, only a server can tell.
func parameterProblem(name, value string) string {
	lower := strings.ToLower(name)
	switch {
	case !isParameterName(name):
		return fmt.Sprintf("%q is not the name of a parameter", name)
	case ManagedParameter(name):
		return "is managed by the orchestrator: " + managed[lower]
	case slices.Contains(presets, lower):
		return "cannot be set in a configuration file"
	case hasControl(strings.ReplaceAll(value, "\t", " ")):
		return "the value has a line break or a control character"
	case len(value) > 8192:
		return fmt.Sprintf("the value is %d bytes long; at most 8192 are allowed", len(value))
	}
	if floor, ok := floors[lower]; ok {
		if n, err := strconv.Atoi(strings.TrimSpace(value)); err != nil || n < floor {
			return fmt.Sprintf("%q is too low or no number; replication and the router need at least %d", value, floor)
		}
	}
	return ""
}

// isParameterName follows valid_custom_variable_name (src/backend/utils/misc/guc.c): identifiers joined by dots.
func isParameterName(name string) bool {
	if len(name) > 128 {
		return false
	}
	for part := range strings.SplitSeq(strings.ToLower(name), ".") {
		if part == "" || strings.IndexByte("0123456789$", part[0]) >= 0 {
			return false
		}
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_$") != "" {
			return false
		}
	}
	return true
}

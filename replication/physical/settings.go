package physical

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// defaults are sized for a small machine on which several servers run; the spec's parameters override them. standbys is how many
// nodes stream from the group's primary: each takes a slot and a WAL sender, and a base backup takes two senders more.
//
// After a restart of the primary a standby tries again every wal_retrieve_retry_interval: half a second costs two lines
// of log a second while the primary is down. That a peer is gone without a word is noticed by TCP (keepalives here, and
// in primary_conninfo) after some 10 s on the standby and 45 s on the primary; the timeouts of sender and receiver are for a peer that hangs.
func defaults(standbys int) map[string]string {
	streams := strconv.Itoa(max(20, standbys+10))
	return map[string]string{
		"max_connections":              "100",
		"shared_buffers":               "128MB",
		"max_wal_senders":              streams,
		"max_replication_slots":        streams,
		"max_prepared_transactions":    "100", // two-phase commits across workers
		"max_worker_processes":         "16",
		"max_locks_per_transaction":    "128", // partitions
		"hot_standby_feedback":         "on",
		"wal_keep_size":                "128MB",
		"wal_retrieve_retry_interval":  "500ms",
		"wal_receiver_status_interval": "1s",
		"wal_receiver_timeout":         "30s",
		"wal_sender_timeout":           "30s",
		"tcp_keepalives_idle":          "30",
		"tcp_keepalives_interval":      "5",
		"tcp_keepalives_count":         "3",
		"timezone":                     "UTC",
		"datestyle":                    "iso, mdy",
		"default_text_search_config":   "pg_catalog.english",
		"log_line_prefix":              "%m [%p] %q%u@%d ",
		"log_lock_waits":               "on",
		"log_autovacuum_min_duration":  "10min",
		"log_file_mode":                "0600",
		"log_rotation_age":             "1d",
		"log_rotation_size":            "50MB",
		"max_wal_size":                 "1GB",
		"recovery_init_sync_method":    "syncfs",
	}
}

// commandLine are the settings that the server gets by -c: neither the file nor ALTER SYSTEM can change them, so nobody can
// make the node unreachable or no standby.
func (s *Server) commandLine() []setting {
	data := s.DataDir()
	return []setting{
		{"config_file", data + "/postgresql.conf"},
		{"hba_file", data + "/pg_hba.conf"},
		{"ident_file", data + "/pg_ident.conf"},
		{"external_pid_file", ""},
		{"listen_addresses", s.cfg.Address},
		{"port", strconv.Itoa(s.cfg.Port)},
		{"unix_socket_directories", s.SocketDir()},
		{"unix_socket_group", ""},
		{"unix_socket_permissions", "0700"},
		{"cluster_name", s.cfg.Node},
		{"wal_level", "logical"},
		{"hot_standby", "on"},
		{"logging_collector", "on"},
		{"log_directory", s.path("log")},
		{"log_filename", "postgresql-%Y-%m-%d_%H%M%S.log"},
	}
}

type setting struct{ name, value string }

// canonical is a setting's name as PostgreSQL compares it.
func canonical(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// checkNames refuses names that are no names, that are managed, or that appear twice.
func checkNames(params map[string]string) error {
	var errs []error
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		c := canonical(name)
		switch {
		case !validName(c):
			errs = append(errs, fmt.Errorf("parameter %q: not the name of a setting", name))
		case cluster.ManagedParameter(c):
			errs = append(errs, fmt.Errorf("parameter %q: is managed by the orchestrator and cannot be set", name))
		case seen[c] != "":
			errs = append(errs, fmt.Errorf("parameter %q: is given twice (%q)", name, seen[c]))
		case strings.ContainsRune(params[name], 0):
			errs = append(errs, fmt.Errorf("parameter %q: the value contains a zero byte", name))
		}
		seen[c] = name
	}
	return errors.Join(errs...)
}

// validName: an identifier, or two with a dot between them (a setting of an extension).
func validName(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) > 2 {
		return false
	}
	for _, p := range parts {
		if p == "" || len(p) > 63 {
			return false
		}
		for i, r := range p {
			letter := r >= 'a' && r <= 'z' || r == '_'
			if !letter && (i == 0 || !(r >= '0' && r <= '9' || r == '$')) {
				return false
			}
		}
	}
	return true
}

// fileSettings makes the content of postgresql.conf as a map. floor holds the least values that a standby may have
// (CheckRequiredParameterValues in src/backend/access/transam/xlogrecovery.c); nil for a primary.
func (s *Server) fileSettings(set Settings, floor map[string]int) (map[string]string, error) {
	if err := checkNames(set.Parameters); err != nil {
		return nil, err
	}
	all := defaults(set.Standbys)
	for name, value := range set.Parameters {
		all[canonical(name)] = value
	}
	for name, least := range floor {
		if n, err := strconv.Atoi(strings.TrimSpace(all[name])); err == nil && n < least {
			all[name] = strconv.Itoa(least)
		} else if _, given := all[name]; !given {
			all[name] = strconv.Itoa(least)
		}
	}
	all["password_encryption"] = "scram-sha-256"
	all["recovery_target_timeline"] = "latest"
	if up := set.Upstream; up != nil {
		all["primary_conninfo"] = s.conninfo(*up)
		all["primary_slot_name"] = up.Slot
	}
	return all, nil
}

// confFile renders postgresql.conf.
func confFile(node string, all map[string]string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, generated+" for node %s. Do not edit: it is written anew.\n", node)
	b.WriteString("# Change settings with `orchestrator config set postgresql.parameters.NAME=VALUE`.\n")
	b.WriteString("# Port, addresses, sockets, wal_level and the like are on the server's command line.\n\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteConf(all[name]))
	}
	return []byte(b.String())
}

// standbyRole tells whether the settings are a standby's.
func (set Settings) standbyRole() bool { return set.Role == cluster.Standby }

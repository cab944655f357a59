package physical

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// DiskState says whose a node's folder is.
type DiskState string

// The states of a folder.
const (
	// Absent: nothing there, or our marker without a data directory: one may be created.
	Absent DiskState = "absent"
	// Ours: our marker and a data directory.
	Ours DiskState = "ours"
	// Foreign: something else is there. It is never changed.
	Foreign DiskState = "foreign"
)

// Disk is what is found in a node's folder.
type Disk struct {
	State DiskState
	// Reason explains Foreign, and a data directory of ours that cannot be read (then SystemID is empty).
	Reason string
	// SystemID, Timeline and ClusterState ("in production", "shut down", …) are pg_controldata's.
	SystemID     string
	Timeline     uint32
	ClusterState string
	// StandbySignal: the server would start as a standby.
	StandbySignal bool
	// Version is the major version in PG_VERSION.
	Version string
	// ControlMax are the settings that a standby must not go below, by their names in postgresql.conf.
	ControlMax map[string]int
}

// marker makes a folder ours.
type marker struct {
	ClusterID string `json:"cluster_id"`
	Cluster   string `json:"cluster"`
	Node      string `json:"node"`
	Group     int    `json:"group"`
	// Host is empty in markers of earlier versions.
	Host string `json:"host,omitempty"`
}

const markerFile = "marker.json"

// Inspect looks at the node's folder. It changes nothing.
func (s *Server) Inspect(ctx context.Context) (Disk, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Disk{State: Absent}, nil
	}
	if err != nil {
		return Disk{}, s.errorf("look into its folder: %w", err)
	}
	if reason := s.foreign(entries); reason != "" {
		return Disk{State: Foreign, Reason: reason}, nil
	}
	if _, err := os.Lstat(s.DataDir()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Disk{State: Absent}, nil
		}
		return Disk{}, s.errorf("look into its folder: %w", err)
	}
	d := Disk{State: Ours}
	if v, err := os.ReadFile(filepath.Join(s.DataDir(), "PG_VERSION")); err == nil {
		d.Version = string(trimSpace(v))
	}
	_, err = os.Lstat(filepath.Join(s.DataDir(), standbySignal))
	d.StandbySignal = err == nil
	ctl, err := s.controlData(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return Disk{}, err
		}
		d.Reason = err.Error()
		return d, nil
	}
	d.SystemID, d.Timeline, d.ClusterState, d.ControlMax = ctl.systemID, ctl.timeline, ctl.state, ctl.max
	return d, nil
}

// foreign tells why a folder with these entries is not ours, or "".
func (s *Server) foreign(entries []fs.DirEntry) string {
	files := 0
	for _, e := range entries {
		// A killed agent may leave the beginnings of a marker.
		if e.Name() != "lost+found" && !isTemporary(e.Name(), markerFile) {
			files++
		}
	}
	if files == 0 {
		return ""
	}
	raw, err := os.ReadFile(s.path(markerFile))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Sprintf("%s is not empty and has no %s, so it was not made for a node", s.cfg.Dir, markerFile)
		}
		return fmt.Sprintf("%s cannot be read: %v", s.path(markerFile), err)
	}
	var m marker
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Sprintf("%s is not a marker: %v", s.path(markerFile), err)
	}
	if m.ClusterID != s.cfg.ClusterID {
		return fmt.Sprintf("%s belongs to cluster %q (id %s), not to %q (id %s)", s.cfg.Dir, m.Cluster, m.ClusterID, s.cfg.ClusterName, s.cfg.ClusterID)
	}
	if m.Node != s.cfg.Node {
		return fmt.Sprintf("%s belongs to node %s", s.cfg.Dir, m.Node)
	}
	return ""
}

// claim refuses a foreign folder and makes an empty one ours.
func (s *Server) claim() error {
	if err := s.checkOurs(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	mode := os.FileMode(0o700)
	if s.cfg.Account.Switch {
		mode = 0o711 // the account passes through; what is inside protects itself
	}
	if err := os.MkdirAll(filepath.Dir(s.cfg.Dir), 0o755); err != nil {
		return s.errorf("make its folder: %w", err)
	}
	if err := os.Mkdir(s.cfg.Dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return s.errorf("make its folder: %w", err)
	}
	if err := os.Chmod(s.cfg.Dir, mode); err != nil {
		return s.errorf("make its folder: %w", err)
	}
	if _, err := os.Lstat(s.path(markerFile)); err == nil {
		return nil
	}
	raw, err := json.MarshalIndent(marker{s.cfg.ClusterID, s.cfg.ClusterName, s.cfg.Node, s.cfg.Group, s.cfg.Host}, "", "  ")
	if err != nil {
		return s.errorf("write its marker: %w", err)
	}
	if _, err := replaceFile(s.path(markerFile), append(raw, '\n'), nil); err != nil {
		return s.errorf("write its marker: %w", err)
	}
	return nil
}

// checkOurs refuses a foreign folder by name. It gives fs.ErrNotExist if there is none.
func (s *Server) checkOurs() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return s.errorf("look into its folder: %w", err)
	}
	if reason := s.foreign(entries); reason != "" {
		return s.errorf("%w: %s; move it away, or choose another folder with --data-dir. Nothing was changed", ErrForeign, reason)
	}
	return nil
}

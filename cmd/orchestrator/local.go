package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// defaultCluster is the name of a cluster that was given none.
const defaultCluster = cluster.DefaultName

// clusterName is the rule for names of clusters (cluster.Spec.Name).
var clusterName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

// localFileName is the file in the data folder by which other commands find a cluster run by `up`.
const localFileName = "multicoord.json"

// keyFileName is the cluster's secret key in the data folder, unless --key-file names another place.
const keyFileName = "cluster.key"

// localCluster is what `up` leaves in the data folder for the other commands.
type localCluster struct {
	Cluster string   `json:"cluster"`
	ID      string   `json:"id"`
	Etcd    []string `json:"etcd"`
}

// dataDir gives the absolute path of this host's data folder: --data-dir, or the default of the user.
func (a *app) dataDir() (string, error) {
	if a.global.DataDir != "" {
		return filepath.Abs(a.global.DataDir)
	}
	if a.euid == 0 {
		return filepath.Join("/var/lib/multicoord", a.global.Cluster), nil
	}
	if base, ok := a.lookupEnv("XDG_DATA_HOME"); ok && filepath.IsAbs(base) {
		return filepath.Join(base, "multicoord", a.global.Cluster), nil
	}
	home, ok := a.lookupEnv("HOME")
	if !ok || !filepath.IsAbs(home) {
		return "", errors.New("HOME is not set: say with --data-dir where the data lies")
	}
	return filepath.Join(home, ".local", "share", "multicoord", a.global.Cluster), nil
}

// keyFile gives the file with the cluster's secret key.
func (a *app) keyFile() (string, error) {
	if a.global.KeyFile != "" {
		return filepath.Abs(a.global.KeyFile)
	}
	dir, err := a.dataDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, keyFileName), nil
}

// readLocal reads what `up` has left in dir; fs.ErrNotExist when there is nothing.
func readLocal(dir string) (localCluster, error) {
	path := filepath.Join(dir, localFileName)
	b, err := os.ReadFile(path)
	if err != nil {
		return localCluster{}, err
	}
	var l localCluster
	if err := json.Unmarshal(b, &l); err != nil {
		return localCluster{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(l.Etcd) == 0 {
		return localCluster{}, fmt.Errorf("read %s: it names no etcd", path)
	}
	return l, nil
}

// writeLocal leaves l in dir for the other commands.
func writeLocal(dir string, l localCluster) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, localFileName), append(b, '\n'), 0o600)
}

// writeFile replaces a file whole: readers see the old content or the new, also after a crash.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails harmlessly once renamed
	if err := errors.Join(f.Chmod(mode), writeSync(f, content), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync the folder %s: %w", dir, err)
	}
	return nil
}

func writeSync(f *os.File, content []byte) error {
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}

// checkEndpoint checks the form of one address of etcd.
func checkEndpoint(e string) error {
	u, err := url.Parse(e)
	if err != nil || u.Host+u.Path == "" {
		return fmt.Errorf("--etcd %q: write an address such as http://etcd1:2379", e)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" || u.User != nil || (u.Path != "" && u.Path != "/") {
			return fmt.Errorf("--etcd %q: write an address such as http://etcd1:2379 (a user goes into --etcd-user)", e)
		}
		return nil
	case "unix", "unixs":
		return nil
	default:
		return fmt.Errorf("--etcd %q: write http:// or https:// before the address", e)
	}
}

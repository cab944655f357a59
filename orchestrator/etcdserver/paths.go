package etcdserver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketPath is the longest path of a unix socket that works everywhere (sun_path is 104 bytes on BSD, 108
// on Linux, with a zero at the end).
const maxSocketPath = 103

const (
	clientSocket = "client.sock"
	peerSocket   = "peer.sock"
)

// Endpoint is the URL of the server that runs in dir, or would: it depends on dir and the user alone, so other
// processes find the server by it.
func Endpoint(dir string) (string, error) {
	run, err := runDir(dir)
	if err != nil {
		return "", err
	}
	return "unix://" + filepath.Join(run, clientSocket), nil
}

// runDir is where the sockets are: dir/run, or, when that would be too long for a socket, a private folder under
// the folder for temporary files whose name is a digest of dir.
func runDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the folder of the embedded etcd: %w", err)
	}
	run := filepath.Join(abs, "run")
	if len(filepath.Join(run, clientSocket)) <= maxSocketPath {
		return run, nil
	}
	sum := sha256.Sum256([]byte(abs))
	run = filepath.Join(os.TempDir(), fmt.Sprintf("multicoord-%d-%s", os.Geteuid(), hex.EncodeToString(sum[:8])))
	if len(filepath.Join(run, clientSocket)) > maxSocketPath {
		return "", fmt.Errorf("no place for the sockets of the embedded etcd: both %s and %s are too long (at most %d bytes with the socket's name); choose a shorter data folder or TMPDIR",
			abs, run, maxSocketPath)
	}
	return run, nil
}

// private makes dir with mode 0700, or checks that it is a folder of ours that nobody else can enter.
func private(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return fmt.Errorf("create folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("inspect folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder; move it away", dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("folder %s belongs to user id %d, not to us (%d); it is not used, because its owner could read the agreed state", dir, st.Uid, os.Geteuid())
	}
	if info.Mode().Perm() != 0o700 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("make folder private: %w", err)
		}
	}
	return nil
}

// syncDir makes the entries of a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is in the way and is no socket; move it away", path)
	}
	return os.Remove(path)
}

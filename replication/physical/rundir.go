package physical

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// runDir is the folder of a node's sockets. It is found from the node's folder alone, so that a restarted agent finds a running
// guard again.
type runDir struct {
	dir string
	// base is the folder above it that we have to make and verify, if it is not in the node's own folder.
	base string
	// uid is who keeps the node: who made its marker, or else we. Root may look after a node that another user keeps.
	uid int
}

func runDirOf(nodeDir string) runDir {
	uid := os.Geteuid()
	if st, err := os.Stat(filepath.Join(nodeDir, markerFile)); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			uid = int(sys.Uid)
		}
	}
	near := runDir{dir: filepath.Join(nodeDir, "run"), uid: uid}
	if len(filepath.Join(near.postgres(), maxPortName)) <= maxPathLen {
		return near
	}
	base := "/tmp/multicoord-" + strconv.Itoa(uid)
	if uid == 0 {
		if st, err := os.Stat("/run"); err == nil && st.IsDir() {
			base = "/run/multicoord"
		}
	}
	sum := sha256.Sum256([]byte(filepath.Clean(nodeDir)))
	return runDir{dir: filepath.Join(base, hex.EncodeToString(sum[:8])), base: base, uid: uid}
}

func (r runDir) guard() string    { return filepath.Join(r.dir, "guard.sock") }
func (r runDir) postgres() string { return filepath.Join(r.dir, "pg") }

// make creates the folders: ours can be passed through by the account, but only we may list and change them; the server's
// belongs to the account alone.
func (r runDir) make(a Account) error {
	mode := os.FileMode(0o700)
	if a.Switch {
		mode = 0o711
	}
	if r.base != "" {
		if err := makePrivate(r.base, mode, r.uid); err != nil {
			return err
		}
	}
	if err := makePrivate(r.dir, mode, r.uid); err != nil {
		return err
	}
	pg := r.postgres()
	if err := os.Mkdir(pg, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	if err := a.chown(pg); err != nil {
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	return makePrivate(pg, 0o700, int(a.UID))
}

// makePrivate makes a folder with a mode, or verifies one that is there: in /tmp, anybody may have put it there before us.
func makePrivate(dir string, mode os.FileMode, uid int) error {
	err := os.Mkdir(dir, mode)
	if err == nil && uid != os.Geteuid() {
		err = os.Lchown(dir, uid, -1)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("make the folder for sockets: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(sys.Uid) != uid {
		return fmt.Errorf("the folder for sockets %s is not a folder that belongs to uid %d; remove it, or choose a shorter --data-dir", dir, uid)
	}
	if st.Mode().Perm() != mode {
		if err := os.Chmod(dir, mode); err != nil {
			return fmt.Errorf("make the folder for sockets: %w", err)
		}
	}
	return nil
}

func (r runDir) remove() error {
	if err := os.RemoveAll(r.dir); err != nil {
		return err
	}
	if r.base != "" {
		_ = os.Remove(r.base) // only if it is empty
	}
	return nil
}

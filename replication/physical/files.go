package physical

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const standbySignal = "standby.signal"

func trimSpace(b []byte) []byte { return bytes.TrimSpace(b) }

// privateMode is that of the files that replaceFile makes.
const privateMode = 0o600

// replaceFile makes a private file with that content, atomically and durably, unless it already is so. The file belongs to
// owner if that is not nil. The folder may belong to the account: the new file is made under a name that nobody can have
// guessed, and no link is followed.
func replaceFile(path string, content []byte, owner *Account) (changed bool, err error) {
	if same(path, content, owner) {
		return false, nil
	}
	if err := sweepTemporary(path); err != nil {
		return false, err
	}
	var salt [8]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return false, err
	}
	tmp := path + "." + hex.EncodeToString(salt[:]) + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, privateMode)
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp) // after the rename there is nothing to remove
	defer f.Close()
	if err := f.Chmod(privateMode); err != nil {
		return false, err
	}
	if owner != nil && owner.Switch {
		if err := f.Chown(int(owner.UID), int(owner.GID)); err != nil {
			return false, err
		}
	}
	if _, err := f.Write(content); err != nil {
		return false, err
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	if err := os.Rename(tmp, path); err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

// isTemporary tells whether a file is one that replaceFile has begun for another, and has not finished.
func isTemporary(name, final string) bool {
	return strings.HasPrefix(name, final+".") && strings.HasSuffix(name, ".tmp")
}

// sweepTemporary removes what killed processes have left of earlier attempts.
func sweepTemporary(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isTemporary(e.Name(), filepath.Base(path)) {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(path), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func same(path string, content []byte, owner *Account) bool {
	st, err := os.Lstat(path)
	if err != nil || !st.Mode().IsRegular() || st.Mode().Perm() != privateMode || st.Size() != int64(len(content)) {
		return false
	}
	if owner != nil && !owns(st, *owner) {
		return false
	}
	have, err := os.ReadFile(path)
	return err == nil && bytes.Equal(have, content)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// publish makes a folder that is complete appear under its final name, durably: everything of its file system is written
// out by one syncfs (one fsync for each of a thousand files takes seconds), then it is renamed.
func publish(partial, final string) error {
	d, err := os.Open(partial)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", partial, err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, partial, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE); err != nil {
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) { // file systems without the flag
			return fmt.Errorf("rename %s: %w", partial, err)
		}
		if err := os.Rename(partial, final); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(final))
}

func owns(st fs.FileInfo, a Account) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Uid == a.UID && sys.Gid == a.GID
}

package physical

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/multicoord/multicoord/failover/guard"
)

// Account is the OS account that servers run as.
type Account struct {
	Name     string
	UID, GID uint32
	Groups   []uint32
	// Switch: we run as root and must change to it.
	Switch bool
	Home   string
}

// LookupAccount finds the account for servers: osUser (by default "postgres") if we are root (euid 0), and ourselves
// otherwise. PostgreSQL refuses to run as root.
func LookupAccount(osUser string, euid int) (Account, error) {
	if euid != 0 {
		me, err := user.LookupId(strconv.Itoa(euid))
		if err != nil { // no passwd entry, as in some containers: the numbers do
			return Account{Name: strconv.Itoa(euid), UID: uint32(euid), GID: uint32(os.Getegid()), Home: os.Getenv("HOME")}, nil //nolint:nilerr // as said above
		}
		if osUser != "" && osUser != me.Username {
			return Account{}, fmt.Errorf("servers cannot run as OS user %q: this process runs as %q and only root can switch; start it as root or as %q", osUser, me.Username, osUser)
		}
		return account(me, false)
	}
	name := osUser
	if name == "" {
		name = "postgres"
	}
	u, err := user.Lookup(name)
	if err != nil {
		return Account{}, fmt.Errorf("OS user %q does not exist, and PostgreSQL does not run as root; install the PostgreSQL server package (which creates it), "+
			"or `useradd --system --create-home %s`, or name another with --os-user: %w", name, name, err)
	}
	if u.Uid == "0" {
		return Account{}, fmt.Errorf("OS user %q is root, as which PostgreSQL does not run; name another with --os-user", name)
	}
	return account(u, true)
}

func account(u *user.User, switchTo bool) (Account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return Account{}, fmt.Errorf("OS user %q: uid %q: %w", u.Username, u.Uid, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return Account{}, fmt.Errorf("OS user %q: gid %q: %w", u.Username, u.Gid, err)
	}
	a := Account{Name: u.Username, UID: uint32(uid), GID: uint32(gid), Switch: switchTo, Home: u.HomeDir}
	if ids, err := u.GroupIds(); err == nil { // such as ssl-cert, for the server's key
		for _, id := range ids {
			if g, err := strconv.ParseUint(id, 10, 32); err == nil {
				a.Groups = append(a.Groups, uint32(g))
			}
		}
	}
	return a, nil
}

// credential is what a child process is started with; nil keeps ours.
func (a Account) credential() *syscall.Credential {
	if !a.Switch {
		return nil
	}
	return &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.Groups}
}

func (a Account) guardCredential() *guard.Credential {
	if !a.Switch {
		return nil
	}
	return &guard.Credential{UID: a.UID, GID: a.GID, Groups: a.Groups}
}

// chown gives a file to the account, if we are not it.
func (a Account) chown(path string) error {
	if !a.Switch {
		return nil
	}
	return os.Lchown(path, int(a.UID), int(a.GID))
}

// CheckReach makes sure that the account can reach a folder (which need not exist yet): otherwise PostgreSQL ends with a
// message that does not tell which folder bars the way.
func (a Account) CheckReach(ctx context.Context, dir string) error {
	if !a.Switch {
		return nil
	}
	var up []string // existing folders, deepest first
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil {
			up = append(up, d)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look at %s: %w", d, err)
		}
		if d == filepath.Dir(d) {
			break
		}
	}
	if ok, err := a.canEnter(ctx, up[0]); ok || err != nil {
		return err
	}
	for _, d := range slices.Backward(up) {
		ok, err := a.canEnter(ctx, d)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("OS user %q cannot enter %s, which is on the way to %s; `chmod o+x %s`, or choose another folder with --data-dir", a.Name, d, dir, d)
		}
	}
	return nil
}

// canEnter asks the kernel, as the account: access lists and mount options count too.
func (a Account) canEnter(ctx context.Context, dir string) (bool, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `test -d "$1" && test -x "$1"`, "sh", dir)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: a.credential()}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("test whether OS user %q can enter %s: %w", a.Name, dir, err)
	}
	return true, nil
}

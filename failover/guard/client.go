package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client speaks to one run of a guard. Each call is a connection of its own: a Client holds no resources, and is safe for
// concurrent use. If that guard is gone, and another has taken the socket, calls end with ErrNotRunning.
type Client struct {
	socket   string
	instance string
}

// Dial finds the guard that listens on socket. ErrNotRunning if there is none.
func Dial(ctx context.Context, socket string) (*Client, error) {
	c := &Client{socket: socket}
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	c.instance = st.Instance
	return c, nil
}

// Status asks for the state of the guard and its server.
func (c *Client) Status(ctx context.Context) (Status, error) {
	resp, err := c.call(ctx, request{Op: "status"})
	if err != nil {
		return Status{}, fmt.Errorf("ask the guard for its status: %w", err)
	}
	if resp.Status == nil {
		return Status{}, errors.New("ask the guard for its status: the answer has none")
	}
	return *resp.Status, nil
}

// SetDeadline tells until when the server may be primary under a term. Within a term a deadline only moves later (an earlier
// one is no error and changes nothing). Errors: ErrStaleTerm, ErrFenced, ErrStopping, ErrNotRunning.
func (c *Client) SetDeadline(ctx context.Context, term uint64, deadline Instant) error {
	if _, err := c.call(ctx, request{Op: "deadline", Term: term, Deadline: deadline}); err != nil {
		return fmt.Errorf("set the deadline of term %d: %w", term, err)
	}
	return nil
}

// Fence gives up the right to be primary under term and every lower one. A primary is stopped immediately; Fence returns
// as soon as that is under way (Wait tells when it is done). On a standby it is only remembered.
func (c *Client) Fence(ctx context.Context, term uint64) error {
	if _, err := c.call(ctx, request{Op: "fence", Term: term}); err != nil {
		return fmt.Errorf("fence under term %d: %w", term, err)
	}
	return nil
}

// Stop stops the server and returns when it is gone, with all its processes. The guard escalates: smart, after timeout fast,
// after timeout immediate, after some seconds SIGKILL. It goes on doing so if ctx ends or the caller dies. A guard that is gone
// is no error, though if it was killed, its server may take another moment (replication/physical Server.Stop makes sure).
func (c *Client) Stop(ctx context.Context, mode StopMode, timeout time.Duration) error {
	_, err := c.call(ctx, request{Op: "stop", Mode: mode, Timeout: timeout})
	if err != nil && !errors.Is(err, ErrNotRunning) {
		return fmt.Errorf("stop the server (%s): %w", mode, err)
	}
	return nil
}

// Reload makes the server read its configuration files again.
func (c *Client) Reload(ctx context.Context) error {
	if _, err := c.call(ctx, request{Op: "reload"}); err != nil {
		return fmt.Errorf("reload the configuration: %w", err)
	}
	return nil
}

// Wait returns when the server has ended, with the exit record; ErrNotRunning if the guard was killed before it could tell.
func (c *Client) Wait(ctx context.Context) (Exit, error) {
	resp, err := c.call(ctx, request{Op: "wait"})
	if err != nil {
		return Exit{}, fmt.Errorf("wait for the server's end: %w", err)
	}
	if resp.Exit == nil {
		return Exit{}, errors.New("wait for the server's end: the answer has no exit record")
	}
	return *resp.Exit, nil
}

func (c *Client) call(ctx context.Context, req request) (response, error) {
	req.Instance = c.instance
	if req.Op != "wait" && req.Op != "stop" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, answerTimeout, ErrNoAnswer)
		defer cancel()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return response{}, fmt.Errorf("%w (%s)", ErrNotRunning, c.socket)
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return response{}, err
	}
	defer conn.Close()
	if err := checkPeer(conn, keeperOf(c.socket)); err != nil {
		return response{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var resp response
	if err = writeLine(conn, req); err == nil {
		err = readLine(conn, &resp)
	}
	switch {
	case err == nil:
		return resp, resp.err()
	case ctx.Err() != nil:
		return response{}, context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return response{}, fmt.Errorf("%w: it ended before it answered", ErrNotRunning)
	}
	return response{}, err
}

// keeperOf is whose guard we expect on a socket: our own, or, for root, that of the user to whom the socket's private folder
// belongs.
func keeperOf(socket string) int {
	if os.Geteuid() == 0 {
		if st, err := os.Stat(filepath.Dir(socket)); err == nil {
			if sys, ok := st.Sys().(*syscall.Stat_t); ok {
				return int(sys.Uid)
			}
		}
	}
	return os.Geteuid()
}

// checkPeer makes sure that the other end of a unix socket runs as that user, as ourselves or as root: file permissions
// protect the socket, this protects against a socket that somebody else has put in its place.
func checkPeer(conn net.Conn, uid int) error {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return fmt.Errorf("read the peer's credentials: %w", credErr)
	}
	if peer := int(cred.Uid); peer != 0 && peer != uid && peer != os.Geteuid() {
		return fmt.Errorf("the process at the other end (pid %d) runs as uid %d, not as %d", cred.Pid, peer, uid)
	}
	return nil
}
